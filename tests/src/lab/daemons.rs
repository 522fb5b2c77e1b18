//! Sextant's binaries in a lab. Only this module of the tests knows their common flags.

use std::{
    io::{PipeWriter, Read, Write},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{
    Lab,
    binary::Build,
    host::{BRIDGE, Host},
    namespace::{Namespace, shown},
    poll::{SECONDS, try_poll},
    process::Process,
};

const GRPC_PORT: u16 = 7300;
const CONTROLLER_HTTP_PORT: u16 = 7301;
const AGENT_HTTP_PORT: u16 = 7302;

/// The kinds of store, as an option of the demo and the benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// A file, with one controller.
    Embedded,
    /// A real etcd with three members.
    Etcd,
}

/// Options of a controller.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// Its commit.
    pub build: Build,
    /// Its number, from 1; its address is [`Lab::controller_address`] of this number.
    pub number: u16,
    /// The host that it runs on; the switch's namespace by default.
    pub host: Option<Host>,
    /// `--store`; an embedded store in the lab's directory by default.
    pub store: Option<String>,
    /// Its limits of open files, soft and hard.
    pub descriptors: Option<(u32, u32)>,
    /// `--log`.
    pub log: String,
    /// More flags.
    pub args: Vec<String>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
    /// Its standard error; its log file by default.
    pub stderr: Option<Arc<PipeWriter>>,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            build: Build::Present,
            number: 1,
            host: None,
            store: None,
            descriptors: None,
            log: "debug".to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            stderr: None,
        }
    }
}

/// Options of an agent.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Its commit.
    pub build: Build,
    /// The numbers of the controllers in its `--controller`.
    pub controllers: Vec<u16>,
    /// Their URLs are for TLS.
    pub over_tls: bool,
    /// `--node`; the host's name by default.
    pub node: Option<String>,
    /// `--bridge`; none if it is empty.
    pub bridge: String,
    /// `--bridge-create`.
    pub bridge_create: bool,
    /// `--uplink`; none if it is empty. `args` may contain more uplinks.
    pub uplink: String,
    /// `--log`.
    pub log: String,
    /// More flags.
    pub args: Vec<String>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
    /// Its standard error; its log file by default.
    pub stderr: Option<Arc<PipeWriter>>,
    /// It starts with the first connection to this socket, as by a socket unit of systemd.
    pub activated_by: Option<PathBuf>,
    /// The words of a program that starts it, e.g. with fewer privileges.
    pub under: Vec<String>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            build: Build::Present,
            controllers: vec![1],
            over_tls: false,
            node: None,
            bridge: BRIDGE.to_owned(),
            bridge_create: true,
            uplink: "eth0".to_owned(),
            log: "debug".to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            stderr: None,
            activated_by: None,
            under: Vec::new(),
        }
    }
}

/// A running controller, in the switch's namespace or on a host.
#[derive(Debug)]
pub struct Controller {
    /// Its process.
    pub process: Process,
    namespace: Namespace,
    address: Ipv6Addr,
}

/// A running agent, in its host's namespace.
#[derive(Debug)]
pub struct Agent {
    /// Its process.
    pub process: Process,
    host: Host,
}

/// The result of a `sextant` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliOutput {
    /// Its exit code (DESIGN §8); -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

impl Lab {
    /// Starts a controller; see [`Controller::wait_ready`].
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn controller(&self, options: ControllerOptions) -> anyhow::Result<Controller> {
        let address = Self::controller_address(options.number);
        let (namespace, device) = match &options.host {
            Some(host) => (Namespace::clone(host), "eth0"),
            None => (self.switch.clone(), "br0"),
        };
        namespace.ip(&format!("address replace {address}/64 dev {device} nodad"))?;
        let name = format!("controller-{}", options.number);
        let store = options.store.unwrap_or_else(|| format!("embedded:{}", self.dir().join(&name).display()));
        let limit = options.descriptors.map(|(soft, hard)| format!("--nofile={soft}:{hard}"));
        let limited = limit.map_or_else(Vec::new, |limit| vec!["prlimit".to_owned(), limit]);
        let mut args = [limited, words(&options.build.bin("sextant-controller")?, &options.log)].concat();
        args.extend(["--store".to_owned(), store]);
        args.extend(["--listen".to_owned(), format!("[{address}]:{GRPC_PORT}")]);
        args.extend(["--http".to_owned(), format!("[{address}]:{CONTROLLER_HTTP_PORT}")]);
        args.extend(options.args);
        Ok(Controller {
            process: namespace.spawn_to(&name, &args, &options.environment, options.stderr.as_deref())?,
            namespace,
            address,
        })
    }

    /// Starts an agent on a host. It creates [`BRIDGE`] there unless the options say otherwise. All agents of a host use the
    /// same state directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn agent(&self, host: &Host, options: AgentOptions) -> anyhow::Result<Agent> {
        let scheme = if options.over_tls { "https://" } else { "http://" };
        let url = |number: &u16| controller_url(*number).replace("http://", scheme);
        let urls: Vec<_> = options.controllers.iter().map(url).collect();
        let node = options.node.as_deref().unwrap_or(host.name());
        let mut args = words(&options.build.bin("sextant-agent")?, &options.log);
        if let Some(socket) = &options.activated_by {
            let activate = ["systemd-socket-activate".to_owned(), format!("--listen={}", socket.display())];
            args.splice(0..0, activate);
        }
        args.splice(0..0, options.under);
        args.extend(["--controller", &urls.join(","), "--node", node].map(str::to_owned));
        if !options.bridge.is_empty() {
            args.extend(["--bridge", &options.bridge].map(str::to_owned));
        }
        if !options.uplink.is_empty() {
            args.extend(["--uplink", &options.uplink].map(str::to_owned));
        }
        args.extend(options.bridge_create.then(|| "--bridge-create".to_owned()));
        args.extend(["--state-dir".to_owned(), self.state_dir(host).display().to_string()]);
        args.extend(["--http".to_owned(), format!("[::1]:{AGENT_HTTP_PORT}")]);
        args.extend(options.args);
        let (name, stderr) = (format!("agent-{}", host.name()), options.stderr.as_deref());
        Ok(Agent { process: host.spawn_to(&name, &args, &options.environment, stderr)?, host: host.clone() })
    }

    /// The state directory of a host's agent.
    pub fn state_dir(&self, host: &Host) -> PathBuf {
        self.dir().join(format!("agent-{}", host.name()))
    }

    /// Runs `sextant` with these arguments against controller 1.
    ///
    /// # Errors
    /// If it cannot be started; not if it fails: see [`CliOutput::succeeded`].
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<CliOutput> {
        self.cli_of(1, args)
    }

    /// As [`Lab::cli`], against the controller with this number.
    ///
    /// # Errors
    /// As there.
    pub fn cli_of(&self, number: u16, args: &[&str]) -> anyhow::Result<CliOutput> {
        self.cli_built(Build::Present, number, args)
    }

    /// As [`Lab::cli_of`], with the `sextant` of this build.
    ///
    /// # Errors
    /// As there.
    pub fn cli_built(&self, build: Build, number: u16, args: &[&str]) -> anyhow::Result<CliOutput> {
        self.cli_run(build, &controller_url(number), args)
    }

    /// As [`Lab::cli`], against the controller at this URL.
    ///
    /// # Errors
    /// As there.
    pub fn cli_at(&self, url: &str, args: &[&str]) -> anyhow::Result<CliOutput> {
        self.cli_run(Build::Present, url, args)
    }

    fn cli_run(&self, build: Build, url: &str, args: &[&str]) -> anyhow::Result<CliOutput> {
        let program = build.bin("sextant")?.display().to_string();
        let args = [&[program.as_str(), "--controller", url, "--insecure"], args].concat();
        let output = self.switch.run(&args)?;
        Ok(CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: shown(&args),
        })
    }

    /// Runs `sextant -o json` with these arguments, and parses its output.
    ///
    /// # Errors
    /// If it fails or its output is not JSON.
    pub fn cli_json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let output = self.cli(&[&["-o", "json"], args].concat())?.succeeded()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{}: {}", output.command, output.stdout))
    }
}

impl Controller {
    /// Its URL for agents and the CLI.
    pub fn url(&self) -> String {
        format!("http://[{}]:{GRPC_PORT}", self.address)
    }

    /// The namespace that it runs in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its answer to `GET path`: the status code and the body.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn http(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http(&self.namespace, self.address, CONTROLLER_HTTP_PORT, path)
    }

    /// Its `/metrics` for a client with this `Accept` header: the content type and the body.
    ///
    /// # Errors
    /// If it does not answer with 200.
    pub fn metrics(&self, accept: &str) -> anyhow::Result<(String, String)> {
        metrics(&self.namespace, self.address, CONTROLLER_HTTP_PORT, accept)
    }

    /// Waits until its `/readyz` returns 200.
    ///
    /// # Errors
    /// On the deadline, or if the process ends.
    pub fn wait_ready(&self, deadline: Duration) -> anyhow::Result<()> {
        wait_ready(&self.process, deadline, || self.http("/readyz"))
    }
}

impl Agent {
    /// When the agent first announced itself, by its log: just before it sent the announcement.
    ///
    /// # Errors
    /// On the deadline.
    pub fn announced_at(&self, deadline: Duration) -> anyhow::Result<SystemTime> {
        let line = self.process.wait_for_line("\"message\":\"host announced\"", deadline)?.text;
        let entry: Value = serde_json::from_str(&line)?;
        let stamp = entry["timestamp"].as_str().unwrap_or_default();
        humantime::parse_rfc3339(stamp).with_context(|| format!("no time in {line}"))
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its answer to `GET path`: the status code and the body.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn http(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http(&self.host, Ipv6Addr::LOCALHOST, AGENT_HTTP_PORT, path)
    }

    /// Its `/metrics` for a client with this `Accept` header: the content type and the body.
    ///
    /// # Errors
    /// If it does not answer with 200.
    pub fn metrics(&self, accept: &str) -> anyhow::Result<(String, String)> {
        metrics(&self.host, Ipv6Addr::LOCALHOST, AGENT_HTTP_PORT, accept)
    }

    /// The number of events of the Docker engine that it has read.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn docker_events(&self) -> anyhow::Result<u64> {
        self.metric("docker_events")
    }

    /// The value of a metric of this name, after `sextant_agent_`.
    ///
    /// # Errors
    /// If it does not answer, or has no such metric.
    pub fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let (_, body) = self.metrics("text/plain")?;
        let start = format!("sextant_agent_{name} ");
        let value = body.lines().find_map(|line| line.strip_prefix(&start));
        Ok(value.with_context(|| format!("no {start}"))?.trim().parse()?)
    }

    /// Waits until its `/readyz` returns 200.
    ///
    /// # Errors
    /// On the deadline, or if the process ends.
    pub fn wait_ready(&self, deadline: Duration) -> anyhow::Result<()> {
        wait_ready(&self.process, deadline, || self.http("/readyz"))
    }
}

impl CliOutput {
    /// Itself if the exit code is 0.
    ///
    /// # Errors
    /// If not, with the command and its output.
    pub fn succeeded(self) -> anyhow::Result<Self> {
        ensure!(self.code == 0, "{}: exit code {}: {}{}", self.command, self.code, self.stderr, self.stdout);
        Ok(self)
    }
}

/// The URL of the controller with this number.
pub fn controller_url(number: u16) -> String {
    format!("http://[{}]:{GRPC_PORT}", Lab::controller_address(number))
}

fn words(program: &std::path::Path, log: &str) -> Vec<String> {
    let program = program.display().to_string();
    [&program, "--insecure", "--log", log, "--log-format", "json"].map(str::to_owned).to_vec()
}

fn wait_ready(
    process: &Process,
    deadline: Duration,
    probe: impl Fn() -> anyhow::Result<(u16, String)>,
) -> anyhow::Result<()> {
    let ready = try_poll(deadline, || match probe() {
        _ if process.ended().is_ok_and(|end| end.is_some()) => Ok(Err("the process has ended".to_owned())),
        Ok((200, _)) => Ok(Ok(())),
        Ok((code, body)) => Err(format!("/readyz returns {code}: {body}")),
        Err(error) => Err(format!("{error:#}")),
    });
    match ready.flatten() {
        Ok(()) => Ok(()),
        Err(state) => bail!("not ready after {deadline:?}: {state}; its log:\n{}", process.log()),
    }
}

/// The content type and the body of `/metrics`.
fn metrics(
    namespace: &Namespace,
    address: Ipv6Addr,
    port: u16,
    accept: &str,
) -> anyhow::Result<(String, String)> {
    let (head, body) = get(namespace, address, port, "/metrics", &format!("Accept: {accept}\r\n"))?;
    ensure!(head.starts_with("HTTP/1.0 200"), "{head}");
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    Ok((content_type.with_context(|| head.clone())?.to_owned(), body))
}

/// The status code and the body.
fn http(namespace: &Namespace, address: Ipv6Addr, port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let (head, body) = get(namespace, address, port, path, "")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.context(head)?, body))
}

/// An HTTP/1.0 GET: the answer ends with the connection. Returns its head and its body.
fn get(
    namespace: &Namespace,
    address: Ipv6Addr,
    port: u16,
    path: &str,
    headers: &str,
) -> anyhow::Result<(String, String)> {
    let target = SocketAddr::V6(SocketAddrV6::new(address, port, 0, 0));
    let mut stream = namespace.enter(|| TcpStream::connect_timeout(&target, SECONDS))??;
    stream.set_read_timeout(Some(5 * SECONDS))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n{headers}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((head.to_owned(), body.to_owned()))
}
