//! Real routing daemons in a lab, from Debian's packages: BIRD 2 and FRR. They write no pid file and no socket outside the
//! lab's directory, and end as any process of the lab does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};

use super::{namespace::Namespace, poll::try_poll, process::Process};
use crate::lab::poll::SECONDS;

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    /// Its process.
    pub process: Process,
    namespace: Namespace,
    socket: PathBuf,
}

/// A running FRR: zebra, bgpd and bfdd.
#[derive(Debug)]
pub struct Frr {
    /// The one that speaks BGP.
    pub bgpd: Process,
    /// The one that speaks with the kernel.
    pub zebra: Process,
    /// The one that watches bgpd's neighbours, where it is told to.
    pub bfdd: Option<Process>,
    namespace: Namespace,
    dir: PathBuf,
}

impl Namespace {
    /// Starts BIRD 2 with a config file, as `bird -f -c FILE`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn bird(&self, config: &Path) -> anyhow::Result<Bird> {
        self.bird_args(config, &[])
    }

    fn bird_args(&self, config: &Path, more: &[&str]) -> anyhow::Result<Bird> {
        let socket = self.dir().join(format!("bird-{}.ctl", self.name()));
        let (config, control) = (config.display().to_string(), socket.display().to_string());
        let args = [&["bird", "-f", "-c", &config, "-s", &control], more].concat();
        let process = self.spawn(&format!("bird-{}", self.name()), &args).context("install bird2")?;
        Ok(Bird { process, namespace: self.clone(), socket })
    }

    /// As [`Namespace::bird_with`], recovering what a BIRD before it has left (`-R`).
    ///
    /// # Errors
    /// As there.
    pub fn bird_recovering(&self, config: &str) -> anyhow::Result<Bird> {
        self.bird_args(&self.config_file("bird", config)?, &["-R"])
    }

    /// As [`Namespace::bird`], with the text of the config.
    ///
    /// # Errors
    /// As there.
    pub fn bird_with(&self, config: &str) -> anyhow::Result<Bird> {
        self.bird(&self.config_file("bird", config)?)
    }

    /// Starts FRR's zebra, bfdd and bgpd, with a config file for bgpd.
    ///
    /// # Errors
    /// If they cannot be started.
    pub fn frr(&self, config: &Path) -> anyhow::Result<Frr> {
        self.frr_with(&fs::read_to_string(config).with_context(|| config.display().to_string())?)
    }

    /// As [`Namespace::frr`], with the text of the config.
    ///
    /// # Errors
    /// As there.
    pub fn frr_with(&self, config: &str) -> anyhow::Result<Frr> {
        let dir = self.dir().join(format!("frr-{}", self.name()));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("bgpd.conf"), config)?;
        ["zebra.conf", "bfdd.conf"].into_iter().try_for_each(|name| fs::write(dir.join(name), ""))?;
        let shown = dir.display().to_string();
        // The daemons give root up.
        self.check(&["chown", "-R", "frr:frr", &shown]).context("install frr")?;
        let control = format!("{shown}/bfdd.sock");
        // Otherwise it deletes an IPv6 route before it adds what takes its place.
        let zebra = self.frr_daemon("zebra", &shown, &["--v6-rr-semantics"])?;
        // Who comes too early tries again only after 10 s, and what bgpd says to an absent bfdd is lost.
        let listens = || dir.join("zserv.api").exists().then_some(()).ok_or("no socket yet");
        try_poll(10 * SECONDS, listens)
            .map_err(|state| anyhow!("zebra: {state}; its log:\n{}", zebra.log()))?;
        let bfdd = if config.contains(" bfd") {
            let bfdd = self.frr_daemon("bfdd", &shown, &["--bfdctl", &control])?;
            zebra.wait_for_line("announce only bfd routes", 10 * SECONDS)?;
            Some(bfdd)
        } else {
            None
        };
        let bgpd = self.frr_daemon("bgpd", &shown, &[])?;
        Ok(Frr { bgpd, zebra, bfdd, namespace: self.clone(), dir })
    }

    fn frr_daemon(&self, daemon: &str, dir: &str, more: &[&str]) -> anyhow::Result<Process> {
        let program = format!("/usr/lib/frr/{daemon}");
        let [pid, config, zserv] =
            [format!("{daemon}.pid"), format!("{daemon}.conf"), "zserv.api".to_owned()]
                .map(|file| format!("{dir}/{file}"));
        let files = ["--vty_socket", dir, "-i", &pid, "-f", &config, "-z", &zserv];
        let args =
            [&[program.as_str()][..], &files, &["-A", "::1", "-P", "0", "--log", "stdout"], more].concat();
        self.spawn(&format!("{daemon}-{}", self.name()), &args)
    }

    fn config_file(&self, daemon: &str, config: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir().join(format!("{daemon}-{}.conf", self.name()));
        fs::write(&path, config)?;
        Ok(path)
    }
}

impl Bird {
    /// What it answers to a command of `birdc`.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, command: &str) -> anyhow::Result<String> {
        let socket = self.socket.display().to_string();
        self.namespace
            .check(&[&["birdc", "-s", &socket][..], &command.split(' ').collect::<Vec<_>>()].concat())
    }
}

impl Frr {
    /// Kills bgpd (SIGKILL), while zebra goes on.
    ///
    /// # Errors
    /// If it has ended before.
    pub fn kill_bgpd(&self) -> anyhow::Result<()> {
        self.bgpd.kill()
    }

    /// Starts bgpd anew, with what it was started with.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_bgpd(&mut self) -> anyhow::Result<()> {
        self.bgpd = self.namespace.frr_daemon("bgpd", &self.dir.display().to_string(), &[])?;
        Ok(())
    }

    /// What it answers to a command of `vtysh`.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, command: &str) -> anyhow::Result<String> {
        self.ask_all(&["-c", command])
    }

    /// As [`Frr::ask`], with `vtysh`'s own arguments: several commands, each after `-c`.
    ///
    /// # Errors
    /// As there.
    pub fn ask_all(&self, commands: &[&str]) -> anyhow::Result<String> {
        let dir = self.dir.display().to_string();
        self.namespace.check(&[&["vtysh", "--vty_socket", &dir], commands].concat())
    }
}
