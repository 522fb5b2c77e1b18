//! Routing daemons in a lab, from Debian's packages: BIRD 2 and FRR. Their pid files and sockets are in the lab's directory,
//! and they end with the lab.

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
    /// The BGP daemon.
    pub bgpd: Process,
    /// The daemon that writes routes to the kernel.
    pub zebra: Process,
    /// The BFD daemon, if the config uses BFD.
    pub bfdd: Option<Process>,
    /// The daemon of static routes, if it was asked for.
    pub staticd: Option<Process>,
    namespace: Namespace,
    dir: PathBuf,
}

impl Namespace {
    /// Starts BIRD 2 with a config file: `bird -f -c FILE`.
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

    /// As [`Namespace::bird_with`], with graceful restart recovery (`-R`).
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

    /// Starts FRR's zebra, bgpd and, if the config uses BFD, bfdd, with a config file for bgpd.
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
        // The daemons switch to the user frr.
        self.check(&["chown", "-R", "frr:frr", &shown]).context("install frr")?;
        let control = format!("{shown}/bfdd.sock");
        // Without this option, zebra deletes an IPv6 route before it adds the new one.
        let zebra = self.frr_daemon("zebra", &shown, &["--v6-rr-semantics"])?;
        // A daemon that starts before zebra listens retries only after 10 s, and bgpd's messages before bfdd runs are lost.
        let listening = || dir.join("zserv.api").exists().then_some(()).ok_or("no socket yet");
        try_poll(10 * SECONDS, listening)
            .map_err(|state| anyhow!("zebra: {state}; its log:\n{}", zebra.log()))?;
        let bfdd = if config.contains(" bfd") {
            let bfdd = self.frr_daemon("bfdd", &shown, &["--bfdctl", &control])?;
            zebra.wait_for_line("announce only bfd routes", 10 * SECONDS)?;
            Some(bfdd)
        } else {
            None
        };
        let bgpd = self.frr_daemon("bgpd", &shown, &[])?;
        Ok(Frr { bgpd, zebra, bfdd, staticd: None, namespace: self.clone(), dir })
    }

    /// As [`Namespace::frr`] with an empty config, and with staticd for static routes.
    ///
    /// # Errors
    /// As there.
    pub fn frr_static(&self) -> anyhow::Result<Frr> {
        let mut frr = self.frr_with("")?;
        fs::write(frr.dir.join("staticd.conf"), "")?;
        frr.staticd = Some(self.frr_daemon("staticd", &frr.dir.display().to_string(), &[])?);
        Ok(frr)
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
    /// Its answer to a `birdc` command.
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
    /// Kills bgpd (SIGKILL); zebra continues.
    ///
    /// # Errors
    /// If it has already ended.
    pub fn kill_bgpd(&self) -> anyhow::Result<()> {
        self.bgpd.kill()
    }

    /// Starts bgpd again with the same config.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_bgpd(&mut self) -> anyhow::Result<()> {
        self.bgpd = self.namespace.frr_daemon("bgpd", &self.dir.display().to_string(), &[])?;
        Ok(())
    }

    /// Its answer to a `vtysh` command.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, command: &str) -> anyhow::Result<String> {
        self.ask_all(&["-c", command])
    }

    /// As [`Frr::ask`], with arguments for `vtysh`: several commands, each after `-c`.
    ///
    /// # Errors
    /// As there.
    pub fn ask_all(&self, commands: &[&str]) -> anyhow::Result<String> {
        let dir = self.dir.display().to_string();
        self.namespace.check(&[&["vtysh", "--vty_socket", &dir], commands].concat())
    }
}
