//! The README's shortest install, run as it is written: each command is taken from the page.

use std::path::PathBuf;

use sextant_tests::{Host, Lab, Process, SECONDS, bin, poll};

use crate::{page::Page, read, shell};

/// Where the README has the commands, and the sample of what they lead to.
const INSTALL: &str = "the-shortest-real-install";
/// What the lab has done already, or must not do to this machine.
const LEFT_OUT: &[&str] = &["cargo", "install", "systemctl"];
const STORE: &str = "/var/lib/sextant";

/// A lab in which the README's commands run.
struct Site {
    lab: Lab,
    hosts: Vec<Host>,
    environment: Vec<(String, String)>,
    daemons: Vec<Process>,
}

impl Site {
    fn new(hosts: u16) -> Self {
        let lab = Lab::new("readme").unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        // As the container engine does.
        for host in &hosts {
            host.ip_batch("link add docker0 type bridge\nlink set docker0 up").unwrap();
        }
        Self { lab, hosts, environment: Vec::new(), daemons: Vec::new() }
    }

    fn run(&mut self, words: &[String]) {
        let words: Vec<_> = words.iter().filter(|word| *word != "sudo").cloned().collect();
        match words[0].as_str() {
            "export" => self.environment.extend(words[1..].iter().map(|word| assignment(word))),
            "sextant-controller" => {
                let words = self.in_lab(&words);
                self.daemons.push(self.lab.switch().spawn("controller", &words).unwrap());
            }
            "sextant-agent" => {
                let words = self.in_lab(&words);
                for host in &self.hosts {
                    let state = self.lab.state_dir(host).display().to_string();
                    let own = [("SEXTANT_NODE", host.name()), ("SEXTANT_STATE_DIR", &state)];
                    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
                    self.daemons
                        .push(host.spawn_with(&format!("agent-{}", host.name()), &words, &own).unwrap());
                }
            }
            "sextant" => drop(self.sextant(&words)),
            other => {
                assert!(LEFT_OUT.contains(&other), "{other}: the README's install has a command unknown here")
            }
        }
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

    /// With the built program, and a store in the lab's directory.
    fn in_lab(&self, words: &[String]) -> Vec<String> {
        let program = bin(&words[0]).unwrap().display().to_string();
        let dir = self.lab.dir().display().to_string();
        std::iter::once(program).chain(words[1..].iter().map(|word| word.replace(STORE, &dir))).collect()
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
    let containers: Vec<_> = site.hosts.iter().map(|host| host.container("a").unwrap()).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        poll("containers reach each other", 10 * SECONDS, || {
            containers[from].ping(containers[to].address())?.replied()
        });
    }
    let routes = site.hosts[0].ip("-6 route show proto 66").unwrap();
    let sample_routes = sample(&page, "2001:db8:8000:2::/64 via ");
    assert_eq!(routes.lines().count(), sample_routes.lines().count(), "{routes}");
}
