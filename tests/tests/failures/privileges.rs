//! An etcd with authentication, whose user may touch only the keys of one cluster: by the commands of docs/operations.md.

use std::{fs, net::IpAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use sextant_tests::{AgentOptions, Controller, ControllerOptions, Etcd, Lab, SECONDS, poll};

/// The page's commands of etcdctl, with their arguments.
fn documented() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("etcdctl "));
    let commands: Vec<_> =
        lines.filter(|line| line.starts_with("user ") || line.starts_with("role ")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    commands.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// A certificate authority, the member's certificate and the client's, in the directory.
fn certificates(dir: &Path, member: IpAddr) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    fs::write(dir.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for (file, name) in [("server", "m0"), ("client", "sextant"), ("stranger", "stranger")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(member)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

struct Site {
    etcd: Etcd,
    lab: Lab,
}

impl Site {
    /// An etcd with a port for plain text, for the test, and one that knows users by their certificates.
    fn start(test: &str) -> Self {
        let lab = Lab::new(test).unwrap();
        certificates(lab.dir(), "2001:db8::e:1".parse().unwrap());
        let path = |name: &str| lab.dir().join(name).display().to_string();
        let etcd = lab.etcd(
            1,
            &[
                "--bcrypt-cost=4",
                "--listen-client-urls=http://[2001:db8::e:1]:2379,https://[2001:db8::e:1]:2378",
                "--client-cert-auth",
                &format!("--trusted-ca-file={}", path("ca.pem")),
                &format!("--cert-file={}", path("server.pem")),
                &format!("--key-file={}", path("server.key")),
            ],
        );
        let site = Self { etcd: etcd.unwrap(), lab };
        site.etcd.wait_healthy(&site.lab, 0).unwrap();
        site.ctl(&["user", "add", "root:root"]);
        site.ctl(&["user", "grant-role", "root", "root"]);
        site
    }

    fn ctl(&self, args: &[&str]) -> String {
        self.etcd.etcdctl(&self.lab, args).unwrap()
    }

    fn as_root(&self, args: &[&str]) -> String {
        self.ctl(&[&["--user", "root:root"], args].concat())
    }

    /// The documented user and role.
    fn add_user(&self) {
        for command in documented() {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            // Without a terminal, the password is an argument.
            let without_terminal = ["user", "add", "sextant:secret"];
            self.ctl(if words == ["user", "add", "sextant"] { &without_terminal } else { &words });
        }
    }

    fn path(&self, name: &str) -> String {
        self.lab.dir().join(name).display().to_string()
    }

    /// A controller that shows this certificate, or else logs in.
    fn controller(&self, number: u16, certificate: Option<&str>) -> Controller {
        let (store, flags) = match certificate {
            Some(name) => {
                let files = [
                    ("ca", "ca.pem".to_owned()),
                    ("cert", format!("{name}.pem")),
                    ("key", format!("{name}.key")),
                ];
                let flags = files.map(|(flag, file)| [format!("--etcd-{flag}"), self.path(&file)]);
                ("etcd:https://[2001:db8::e:1]:2378", flags.concat())
            }
            None => {
                fs::write(self.path("password"), "secret\n").unwrap();
                let flags = ["--etcd-user", "sextant", "--etcd-password-file", &self.path("password")];
                ("etcd:http://[2001:db8::e:1]:2379", flags.map(str::to_owned).to_vec())
            }
        };
        let options = ControllerOptions {
            number,
            store: Some(store.to_owned()),
            args: flags,
            ..ControllerOptions::default()
        };
        self.lab.controller(options).unwrap()
    }
}

/// One controller logs in by its certificate, the other one by its password.
#[test]
fn controllers_work_in_full_with_a_user_of_etcd_for_their_prefix_alone() {
    let site = Site::start("etcd privileges");
    site.add_user();
    site.ctl(&["auth", "enable"]);
    let controllers = [site.controller(1, Some("client")), site.controller(2, None)];
    for controller in &controllers {
        controller.wait_ready(20 * SECONDS).unwrap();
    }
    let sextant = |args: &[&str]| site.lab.cli(args).unwrap().succeeded().unwrap().stdout;
    sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    let hosts = site.lab.hosts(3).unwrap();
    let start = |index: usize, controllers: &[u16]| {
        let options = AgentOptions { controllers: controllers.to_vec(), ..AgentOptions::default() };
        site.lab.agent(&hosts[index], options).unwrap()
    };
    let mut agents = vec![start(0, &[1, 2]), start(1, &[2, 1])];
    let ready = |wanted: usize| {
        poll("all nodes are ready", 40 * SECONDS, || {
            let nodes = site.lab.cli_json(&["node", "list"])?;
            let is_ready = |node: &&serde_json::Value| node["state"] == "ready" && node["connected"] == true;
            let ready = nodes.as_array().into_iter().flatten().filter(is_ready).count();
            anyhow::ensure!(ready == wanted, "{nodes}");
            Ok(())
        });
        sextant(&["wait", "--timeout", "20s"]);
    };
    ready(2);
    for command in [
        &["reserve", "2001:db8:80ff::/64"][..],
        &["unreserve", "2001:db8:80ff::/64"],
        &["node", "drain", "h1"],
        &["node", "undrain", "h1"],
        &["pause"],
        &["resume"],
        &["backup", &site.path("backup")],
        &["events"],
    ] {
        sextant(command);
    }
    // A controller that has missed what is compacted lists the store again.
    controllers[1].process.freeze().unwrap();
    sextant(&["reserve", "2001:db8:80ff::/64"]);
    let status = site.as_root(&["endpoint", "status", "-w", "fields"]);
    let revision = status.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap();
    site.as_root(&["compaction", revision]);
    controllers[1].process.thaw().unwrap();
    agents.push(start(2, &[2, 1]));
    ready(3);
    agents.remove(1).process.kill().unwrap();
    sextant(&["node", "forget", "h2", "--force"]);
    for controller in &controllers {
        let log = controller.process.log();
        assert!(!log.contains("\"level\":\"ERROR\"") && !log.contains("permission denied"), "{log}");
    }
    // The user reaches nothing else.
    for key in ["/other", "/sextant/v1/other/meta"] {
        for args in [&["get", key][..], &["put", key, "x"], &["del", "/", "--prefix"]] {
            let refused = site.etcd.etcdctl(&site.lab, &[&["--user", "sextant:secret"], args].concat());
            assert!(refused.unwrap_err().to_string().contains("permission denied"), "{args:?}");
        }
    }
}

#[test]
fn a_controller_whose_user_of_etcd_may_do_less_names_the_role_that_is_missing() {
    let site = Site::start("etcd refused");
    site.add_user();
    site.ctl(&["role", "revoke-permission", "sextant", "/sextant/v1/default/", "--prefix=true"]);
    site.ctl(&["role", "grant-permission", "sextant", "read", "/sextant/v1/default/", "--prefix=true"]);
    site.ctl(&["auth", "enable"]);
    let named = |controller: &Controller, words: &[&str]| {
        poll(&format!("{words:?} are named"), 30 * SECONDS, || {
            let log = controller.process.log();
            if words.iter().all(|word| log.contains(word)) { Ok(()) } else { Err(log) }
        });
    };
    let role = ["permission denied", "etcdctl role grant-permission", "/sextant/v1/"];
    for certificate in [Some("client"), None] {
        let controller = site.controller(1, certificate);
        named(&controller, &role);
        controller.process.kill().unwrap();
    }
    // A certificate of no user.
    let controller = site.controller(1, Some("stranger"));
    named(&controller, &["https://[2001:db8::e:1]:2378", "etcdctl"]);
}
