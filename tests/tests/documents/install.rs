//! The README's shortest install, run as it is written: each command is taken from the page.

use std::{fs, path::PathBuf};

use sextant_tests::{Docker, Host, Lab, Process, SECONDS, bin, poll};

use crate::{page::Page, read, shell};

/// Where the README has the commands, and the sample of what they lead to.
const INSTALL: &str = "the-shortest-real-install";
/// What the lab has done already, or must not do to this machine.
const LEFT_OUT: &[&str] = &["cargo", "install"];
const STORE: &str = "/var/lib/sextant";
/// Where the authority's files are.
const PKI: &str = "/etc/sextant/pki";
/// The file of the join token.
const TOKEN: &str = "join-token";
/// The address of the first container, in the sample.
const WEB: &str = "2001:db8:8000:1::2";

/// A lab in which the README's commands run.
struct Site {
    lab: Lab,
    hosts: Vec<Host>,
    engines: Vec<Docker>,
    environment: Vec<(String, String)>,
    daemons: Vec<Process>,
}

impl Site {
    fn new(hosts: u16) -> Self {
        let lab = Lab::new("readme").unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let engines = hosts.iter().map(|host| Docker::start(host, &[]).unwrap()).collect();
        Self { lab, hosts, engines, environment: Vec::new(), daemons: Vec::new() }
    }

    fn run(&mut self, words: &[String]) {
        let words: Vec<_> = words.iter().filter(|word| *word != "sudo").cloned().collect();
        match words[0].as_str() {
            "export" => {
                let words: Vec<_> = words[1..].iter().map(|word| self.path_in_lab(word)).collect();
                self.environment.extend(words.iter().map(|word| assignment(word)));
            }
            "sextant-controller" if words[1] == "pki" => {
                let dir = ["--dir".to_owned(), self.path_in_lab(PKI)];
                self.lab.switch().check(&[self.in_lab(&words), dir.to_vec()].concat()).unwrap();
            }
            "sextant-controller" => {
                let words = self.in_lab(&words);
                self.daemons.push(self.lab.switch().spawn("controller", &words).unwrap());
            }
            "sextant-agent" => {
                let words = self.in_lab(&words);
                for (host, engine) in self.hosts.iter().zip(&self.engines) {
                    let socket = engine.socket().display().to_string();
                    let state = self.lab.state_dir(host).display().to_string();
                    let own = [
                        ("SEXTANT_NODE", host.name()),
                        ("SEXTANT_STATE_DIR", &state),
                        ("SEXTANT_DOCKER_SOCKET", &socket),
                    ];
                    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
                    self.daemons
                        .push(host.spawn_with(&format!("agent-{}", host.name()), &words, &own).unwrap());
                }
            }
            "sextant" => {
                let written = self.sextant(&words);
                if words[1] == "token" {
                    fs::write(self.lab.dir().join(TOKEN), written).unwrap();
                }
            }
            "docker" => self.docker(&words[1..]),
            other => {
                assert!(LEFT_OUT.contains(&other), "{other}: the README's install has a command unknown here")
            }
        }
    }

    /// The first container is on the first host; others are on the second one, and speak of it by the sample's address. All are
    /// of the lab's image.
    fn docker(&self, words: &[String]) {
        let is_first = words.iter().any(|word| word == "web");
        let address = if is_first { String::new() } else { self.engines[0].address("web").unwrap() };
        let word = |word: &String| match word.as_str() {
            "nginx" => "lab sleep 100000".to_owned(),
            "busybox" => "lab".to_owned(),
            WEB => address.clone(),
            word => word.to_owned(),
        };
        let words = words.iter().map(word).collect::<Vec<_>>().join(" ");
        let words: Vec<_> = words.split(' ').collect();
        let engine = &self.engines[usize::from(!is_first)];
        // Who types takes longer.
        poll("the network is there", 20 * SECONDS, || engine.run(&["network", "inspect", "sextant"]));
        poll(&format!("docker {words:?}"), 20 * SECONDS, || engine.run(&words));
    }

    /// What it writes, once a controller answers.
    fn sextant(&self, words: &[String]) -> String {
        let variables = self.environment.iter().map(|(key, value)| format!("{key}={value}"));
        let words =
            ["env".to_owned()].into_iter().chain(variables).chain(self.in_lab(words)).collect::<Vec<_>>();
        poll(&format!("{words:?} is done"), 20 * SECONDS, || {
            let output = self.lab.switch().run(&words)?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            anyhow::ensure!(output.status.success(), "{text}");
            Ok(text)
        })
    }

    /// With the built program, and all files in the lab's directory.
    fn in_lab(&self, words: &[String]) -> Vec<String> {
        let program = bin(&words[0]).unwrap().display().to_string();
        std::iter::once(program).chain(words[1..].iter().map(|word| self.path_in_lab(word))).collect()
    }

    fn path_in_lab(&self, word: &str) -> String {
        let dir = self.lab.dir().display().to_string();
        let word = word.replace(STORE, &dir).replace(PKI, &format!("{dir}/pki"));
        if word == TOKEN { format!("{dir}/{TOKEN}") } else { word }
    }
}

fn assignment(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap();
    (key.to_owned(), value.to_owned())
}

fn readme() -> Page {
    read(PathBuf::from("README.md"))
}

/// A sample of the README, by how it begins.
fn sample(page: &Page, begin: &str) -> String {
    let found = page.blocks.iter().find(|block| block.kind == "text" && block.text.starts_with(begin));
    found.unwrap_or_else(|| panic!("README.md has no sample that begins with {begin:?}")).text.clone()
}

/// What a line is about: its first column.
fn labels(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_shortest_install_of_the_readme_works() {
    let page = readme();
    let sample_status = sample(&page, "All is well: 3 nodes.");
    let mut site = Site::new(3);
    for block in page.blocks.iter().filter(|block| block.kind == "sh" && block.section == INSTALL) {
        for words in shell::commands(&block.text).unwrap() {
            site.run(&words);
        }
    }
    assert_eq!(site.daemons.len(), 4, "a controller and three agents are installed");
    let status = poll("the cluster is healthy", 20 * SECONDS, || {
        let status = site.sextant(&["sextant".into(), "status".into()]);
        anyhow::ensure!(status.starts_with("All is well: 3 nodes."), "{status}");
        anyhow::ensure!(status.contains("3 ready"), "{status}");
        Ok(status)
    });
    assert_eq!(labels(&status), labels(&sample_status), "{status}");
    let web = site.engines[0].address("web").unwrap();
    poll("the container is listed", 10 * SECONDS, || {
        let shown = site.sextant(&["sextant", "node", "show", "h1", "--containers"].map(str::to_owned));
        anyhow::ensure!(shown.contains(&web) && shown.contains("web"), "{shown}");
        Ok(())
    });
    let routes = site.hosts[0].ip("-6 route show proto 66").unwrap();
    let sample_routes = sample(&page, "2001:db8:8000:2::/64 via ");
    assert_eq!(routes.lines().count(), sample_routes.lines().count(), "{routes}");
}
