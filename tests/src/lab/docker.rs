//! A Docker engine of a host: dockerd of Debian's package, in the host's namespace.
//!
//! A keeper process holds a PID namespace and a mount namespace for it. Everything that the engine starts is in them, and ends
//! with the keeper; containers outlive the engine. Its cgroups have the namespace's name, by which the lab's reaper finds them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::{
    Namespace,
    host::Host,
    image,
    keeper::Keeper,
    poll::{SECONDS, try_poll},
    process::Process,
};

/// A root directory with another version of the engine, as debootstrap makes it; otherwise this machine's own is used.
const ROOT: &str = "SEXTANT_DOCKER_ROOT";
/// The name of the image that containers are made of.
const IMAGE: &str = "lab";

/// An engine of a host, and its containers.
#[derive(Debug)]
pub struct Docker {
    host: Host,
    dir: PathBuf,
    keeper: Keeper,
    /// It has a default bridge, as its configuration file says.
    default_bridge: bool,
    /// The engine, while it runs.
    engine: Option<Process>,
}

impl Docker {
    /// Starts an engine, with these arguments too, and gives it the image for containers.
    ///
    /// # Errors
    /// If it does not answer within half a minute.
    pub fn start(host: &Host, args: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(host, args, false)
    }

    /// Starts an engine with a default bridge, whose configuration file is [`Self::daemon_json`]: it does not exist yet.
    ///
    /// # Errors
    /// If it does not answer within half a minute.
    pub fn start_with_bridge(host: &Host, args: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(host, args, true)
    }

    fn start_as(host: &Host, args: &[&str], default_bridge: bool) -> anyhow::Result<Self> {
        let dir = host.dir().join(format!("docker-{}", host.name()));
        fs::create_dir_all(&dir)?;
        let keeper = keeper(host, &dir, std::env::var_os(ROOT).map(PathBuf::from).as_deref())?;
        let mut docker = Self { host: host.clone(), dir, keeper, default_bridge, engine: None };
        docker.start_engine(args)?;
        docker.run(&["import", &image::archive(&docker.dir)?.display().to_string(), IMAGE])?;
        Ok(docker)
    }

    /// Starts the engine again.
    ///
    /// # Errors
    /// If it does not answer within half a minute.
    pub fn start_engine(&mut self, args: &[&str]) -> anyhow::Result<()> {
        let dir = self.dir.display();
        let _none_before = fs::remove_file(self.dir.join("pid"));
        let own = format!(
            "--data-root {dir}/data --exec-root {dir}/exec -p {dir}/pid -H unix://{dir}/socket --cgroup-parent /{} {}",
            Namespace::name(&self.host),
            self.configuration()
        );
        let inside = self.inside()?;
        let words = inside
            .iter()
            .map(String::as_str)
            .chain(["dockerd"])
            .chain(own.split_whitespace())
            .chain(args.iter().copied());
        let engine = self.host.spawn(&format!("docker-{}", self.host.name()), &words.collect::<Vec<_>>())?;
        let answers = || match engine.ended()? {
            Some(status) => anyhow::Ok(Err(status)),
            None => self.run(&["version"]).map(Ok),
        };
        if let Err(status) = try_poll(30 * SECONDS, answers)? {
            anyhow::bail!("dockerd: {status}: {}", engine.log());
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// Ends the engine and its containers, and starts that of another root directory on the same data.
    ///
    /// # Errors
    /// If it does not answer within half a minute.
    pub fn upgrade(&mut self, root: &Path) -> anyhow::Result<()> {
        self.end_engine(Signal::SIGTERM)?;
        self.keeper = keeper(&self.host, &self.dir, Some(root))?;
        self.start_engine(&[])
    }

    /// Ends the engine with a signal, and waits for its end. Its containers go on with `--live-restore` only.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end_engine(&mut self, signal: Signal) -> anyhow::Result<()> {
        let engine = self.engine.take().context("the engine is not running")?;
        let pid = fs::read_to_string(self.dir.join("pid"))?;
        let kill = format!("kill -{} {}", signal as i32, pid.trim());
        let done = Command::new("nsenter").args(&self.inside()?[1..]).args(["sh", "-c", &kill]).output()?;
        ensure!(done.status.success(), "{kill}: {}", String::from_utf8_lossy(&done.stderr));
        engine.wait(20 * SECONDS)?;
        Ok(())
    }

    /// The flags of its configuration. A file that is named has to exist.
    fn configuration(&self) -> String {
        match (self.default_bridge, self.daemon_json()) {
            (false, _) => "--bridge none".to_owned(),
            (true, file) if file.exists() => format!("--config-file {}", file.display()),
            (true, _) => String::new(),
        }
    }

    /// Its configuration file, if it has a default bridge.
    pub fn daemon_json(&self) -> PathBuf {
        self.dir.join("daemon.json")
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The socket of the IPAM driver that [`Self::has_driver`] names.
    pub fn ipam_socket(&self) -> PathBuf {
        self.dir.join("ipam.sock")
    }

    /// Gives the engine the specification of the IPAM driver `sextant`: its socket.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn has_driver(&self) -> anyhow::Result<()> {
        let socket = self.ipam_socket();
        let write = format!(
            "mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && mkdir /etc/docker/plugins && \
             echo unix://{} > /etc/docker/plugins/sextant.spec",
            socket.display()
        );
        let done = Command::new("nsenter").args(&self.inside()?[1..]).args(["sh", "-c", &write]).output()?;
        ensure!(done.status.success(), "{write}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Runs `docker` with these arguments; its standard output, without white space around it.
    ///
    /// # Errors
    /// If it fails; with its standard error.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let socket = format!("unix://{}", self.socket().display());
        let done = Command::new("docker").args(["-H", &socket]).args(args).output().context("docker")?;
        ensure!(
            done.status.success(),
            "docker {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Asks the engine by its API: a POST request without a body.
    ///
    /// # Errors
    /// If it refuses.
    pub fn post(&self, path: &str) -> anyhow::Result<()> {
        let mut socket = UnixStream::connect(self.socket())?;
        write!(socket, "POST /v1.41{path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer.split(' ').nth(1).is_some_and(|code| code.starts_with('2')), "{path}: {answer}");
        Ok(())
    }

    /// Asks the agent's IPAM driver as the engine does. Returns the answer with its header.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask_driver(&self, path: &str, body: &str) -> anyhow::Result<String> {
        let mut socket = UnixStream::connect(self.ipam_socket())?;
        let length = body.len();
        write!(socket, "POST {path} HTTP/1.0\r\nHost: driver\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Starts a container of this name with more arguments of `docker run`, and waits until its addresses can be used.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn container(&self, name: &str, args: &[&str]) -> anyhow::Result<String> {
        let run = [&["run", "-d", "--name", name], args, &[IMAGE, "sleep", "100000"]].concat();
        self.run(&run)?;
        try_poll(10 * SECONDS, || {
            let addresses = self.run(&["exec", name, "ip", "-6", "address"])?;
            ensure!(!addresses.contains("tentative"), "{addresses}");
            Ok(())
        })?;
        self.address(name)
    }

    /// The global IPv6 address of a container.
    ///
    /// # Errors
    /// If it has none.
    pub fn address(&self, name: &str) -> anyhow::Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}";
        let address = self.run(&["inspect", "-f", format, name])?;
        ensure!(!address.is_empty(), "container {name} has no global IPv6 address");
        Ok(address)
    }

    /// A container serves HTTP at a port from now on: it answers with the address that it is asked from.
    ///
    /// # Errors
    /// If it cannot.
    pub fn serve(&self, name: &str, port: u16) -> anyhow::Result<()> {
        self.run(&["exec", name, "httpd", "-p", &port.to_string(), "-h", "/www"]).map(drop)
    }

    /// The network namespace of a container, which may outlive the engine.
    ///
    /// # Errors
    /// If the container does not run.
    pub fn namespace_of(&self, name: &str) -> anyhow::Result<PathBuf> {
        let pid = self.run(&["inspect", "-f", "{{.State.Pid}}", name])?;
        self.keeper.outside(&format!("/proc/{pid}/ns/net"))
    }

    /// What a container [serves](Self::serve) to another one that asks from here: the address of the one that asks.
    ///
    /// # Errors
    /// If it does not within two seconds.
    pub fn ask(&self, name: &str, address: &str, port: u16) -> anyhow::Result<String> {
        let ask = format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}");
        let answer = self.run(&["exec", name, "sh", "-c", &ask])?;
        let (_, from) = answer.rsplit_once("from ").with_context(|| format!("the answer is: {answer}"))?;
        Ok(from.trim_matches(['[', ']']).to_owned())
    }

    /// The words that enter its mount and PID namespaces, in which it says what the processes of containers are.
    ///
    /// # Errors
    /// If they do not exist yet.
    pub fn inside(&self) -> anyhow::Result<Vec<String>> {
        self.keeper.inside()
    }
}

/// Starts the keeper process of an engine, with a root directory of its own if it has one.
fn keeper(host: &Host, dir: &Path, root: Option<&Path>) -> anyhow::Result<Keeper> {
    Keeper::start(host, &format!("docker-{}-keeper", host.name()), dir, root)
}
