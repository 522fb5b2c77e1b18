//! The cluster's own authority, by the commands of docs/identity.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;

use super::{
    Lab,
    binary::Build,
    daemons::{CliOutput, Controller, controller_url},
    host::Host,
    namespace::Namespace,
};

/// An authority, and an admin, ann.
#[derive(Debug)]
pub struct OwnAuthority {
    dir: PathBuf,
    place: Namespace,
}

/// The outcome of `sextant-agent join`.
#[derive(Debug)]
pub struct Joined {
    /// The host has a certificate.
    pub is_done: bool,
    /// What it said.
    pub text: String,
}

impl OwnAuthority {
    /// Makes it, with what controller 1 needs.
    ///
    /// # Errors
    /// If a command fails.
    pub fn make(lab: &Lab) -> anyhow::Result<Self> {
        let own = Self { dir: lab.dir().join("pki"), place: lab.switch().clone() };
        own.run(&["init", "--name", "c1", "--admin", "ann"])?;
        Ok(own)
    }

    /// The `--pki` of the controller with this number.
    pub fn dir_of(&self, controller: u16) -> PathBuf {
        if controller == 1 { self.dir.clone() } else { self.dir.join(format!("c{controller}")) }
    }

    /// The certificate of ann; the key is beside it.
    pub fn admin(&self) -> PathBuf {
        self.dir.join("ann.pem")
    }

    /// Runs `sextant-controller pki`; returns its output.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run_in(&self.dir, args)
    }

    /// The same in another directory.
    ///
    /// # Errors
    /// If it fails.
    pub fn run_in(&self, dir: &Path, args: &[&str]) -> anyhow::Result<String> {
        let program = Build::Present.bin("sextant-controller")?.display().to_string();
        let dir = dir.display().to_string();
        self.place.check(&[&[program.as_str(), "pki"], args, &["--dir", &dir]].concat())
    }

    /// Runs `sextant` as ann against the controller with this number.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn cli(&self, lab: &Lab, controller: u16, args: &[&str]) -> anyhow::Result<CliOutput> {
        let certificate = self.admin().display().to_string();
        lab.cli_at(&tls_url(controller), &[&["--tls-cert", &certificate], args].concat())
    }

    /// A host joins with a new token.
    ///
    /// # Errors
    /// If it does not.
    pub fn join_anew(&self, lab: &Lab, controller: u16, host: &Host) -> anyhow::Result<()> {
        let created = self.cli(lab, controller, &["token", "create", "--node", host.name()])?;
        let joined = lab.join(host, host.name(), &created.succeeded()?.stdout, controller)?;
        ensure!(joined.is_done, "{joined:?}");
        Ok(())
    }
}

impl Lab {
    /// Runs `sextant-agent join` on a host, as this node, with this line as its standard input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn join(&self, host: &Host, node: &str, line: &str, controller: u16) -> anyhow::Result<Joined> {
        self.join_by(host, node, &[], line, controller)
    }

    /// The same as the node of the host's name, with these flags.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn join_with(
        &self,
        host: &Host,
        flags: &[&str],
        line: &str,
        controller: u16,
    ) -> anyhow::Result<Joined> {
        self.join_by(host, host.name(), flags, line, controller)
    }

    fn join_by(
        &self,
        host: &Host,
        node: &str,
        flags: &[&str],
        line: &str,
        controller: u16,
    ) -> anyhow::Result<Joined> {
        let (program, flags) = (Build::Present.bin("sextant-agent")?.display().to_string(), flags.join(" "));
        let state = self.state_dir(host).display().to_string();
        let input = self.dir().join(format!("token-{}-{controller}", host.name()));
        fs::write(&input, line)?;
        let script = format!(
            "exec {program} --controller '{}' --node {node} --state-dir {state} {flags} join <{}",
            tls_url(controller),
            input.display()
        );
        let output = host.run(&["sh", "-c", &script])?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Joined { is_done: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() })
    }
}

impl Controller {
    /// Its URL over TLS.
    pub fn tls_url(&self) -> String {
        self.url().replace("http://", "https://")
    }
}

/// The URL of the controller with this number, over TLS.
pub fn tls_url(controller: u16) -> String {
    controller_url(controller).replace("http://", "https://")
}
