//! A lab and its switch: owns the lab's identity, its directory and its end.
//!
//! Namespaces are named `sx<id>-sw`, `sx<id>-<host>` and `sx<id>-<host>-<container>`, so that labs of one machine do not
//! meet and a reaper finds what belongs to one. The reaper is a child in a session of its own that reads from a pipe whose
//! other end only this process has: however this process ends, the reaper sees that and takes the lab down.

pub mod binary;
pub mod clock;
pub mod counters;
pub mod daemons;
pub mod disk;
pub mod etcd;
pub mod host;
mod logs;
mod loops;
pub mod monitor;
pub mod namespace;
pub mod ping;
pub mod poll;
pub mod process;
mod reaper;
pub mod routers;
pub mod routes;
pub mod segment;
pub mod stream;
pub mod tcp;

use std::{
    fmt::Write,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
};

use anyhow::{Context, bail};
use nix::unistd::Uid;

use self::{host::Host, namespace::Namespace, process::tail, reaper::Reaper};
pub use reaper::remove;

/// How many lines of each log a failing test shows.
const TAIL: usize = 25;

/// A switch, its hosts and their containers; gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    switch: Namespace,
    hosts: AtomicU16,
}

/// What all parts of a lab share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    test: String,
    kept: AtomicBool,
    reaper: Mutex<Option<Reaper>>,
    logs: Mutex<Vec<PathBuf>>,
    changes: loops::Changes,
}

impl Lab {
    /// Makes a lab: a switch (a bridge `br0` with [`Lab::controller_address`] 1) and nothing else.
    ///
    /// # Errors
    /// If this is not root, or `ip` is missing.
    pub fn new(test: &str) -> anyhow::Result<Self> {
        if !Uid::effective().is_root() {
            bail!(
                "the lab makes network namespaces, for which it must be root; run it with tests/run or sudo"
            );
        }
        static SWEPT: Once = Once::new();
        let mut swept = Ok(());
        SWEPT.call_once(|| swept = reaper::sweep());
        swept.context("leftovers of dead labs cannot be taken down")?;
        let site = Site::new(test)?;
        let switch = Namespace::add(&site, "sw")?;
        let address = Self::controller_address(1);
        // Without a link-layer address of its own (none of a host's), a bridge changes it as ports come, and whoever knew the old one is lost.
        switch.ip_batch(&format!(
            "link set lo up
             link add br0 address 02:01:00:00:00:0c type bridge mcast_snooping 0
             address add {address}/64 dev br0 nodad
             link set br0 up"
        ))?;
        Ok(Self { site, switch, hosts: AtomicU16::new(0) })
    }

    /// The address in the switch's namespace of the controller with this number: `2001:db8::c:<number>`.
    pub fn controller_address(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc, number)
    }

    /// What tells this lab from others; [`remove`] takes it.
    pub fn id(&self) -> &str {
        &self.site.id
    }

    /// The lab's directory: logs, state directories, stores. It goes with the lab.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// No daemon of Sextant has flooded its log: less than a hundred lines of level info and above in any minute.
    ///
    /// # Errors
    /// If one has.
    pub fn logs_are_quiet(&self) -> anyhow::Result<()> {
        logs::are_quiet(self.dir())
    }

    /// No daemon of Sextant has made the same transition more than ten times while the test changed nothing. Every lab is
    /// checked for this at its end; the lab's test panics then.
    ///
    /// # Errors
    /// If one has, with the transition.
    pub fn no_daemon_loops(&self) -> anyhow::Result<()> {
        let logs = self.site.logs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        logs.iter().try_for_each(|log| loops::none_in(log, &self.site.changes.of(log)))
    }

    /// The switch: a bridge `br0`, whose port to host N is `p<N>`. The controllers live here.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Adds a host of this name, connected to the switch by `eth0`, which has `2001:db8::N/64` for the Nth host.
    ///
    /// # Errors
    /// If the name is taken or `ip` fails.
    pub fn host(&self, name: &str) -> anyhow::Result<Host> {
        Host::add(self, name, self.hosts.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Adds `count` hosts, named `h<N>` for the Nth host of the lab.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn hosts(&self, count: u16) -> anyhow::Result<Vec<Host>> {
        let first = self.hosts.fetch_add(count, Ordering::Relaxed) + 1;
        (first..first + count).map(|number| Host::add(self, &format!("h{number}"), number)).collect()
    }

    /// Adds a router at `2001:db8::fe:1` that forwards and knows nothing but the hosts' link; give it to a host with
    /// [`Host::default_route_via`] to see what leaks to a default route.
    ///
    /// # Errors
    /// If there is one already or `ip` fails.
    pub fn router(&self) -> anyhow::Result<Host> {
        let router =
            Host::add_at(self, "router", "prouter", Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xfe, 1))?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(router)
    }

    /// Lets the lab and its processes stand when this process ends; [`remove`] takes them down. Returns the id.
    ///
    /// # Errors
    /// If that cannot be recorded.
    pub fn keep(self) -> anyhow::Result<String> {
        reaper::mark_kept(&self.site.dir)?;
        self.site.kept.store(true, Ordering::Relaxed);
        if let Some(reaper) = self.site.take_reaper() {
            reaper.disarm()?;
        }
        Ok(self.site.id.clone())
    }

    /// The lab's name, Sextant's routes in it and the ends of all its logs, for a failing test's message.
    pub fn explain(&self) -> String {
        self.site.explain()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let looped = match std::thread::panicking() {
            true => Ok(()),
            false => self.no_daemon_loops(),
        };
        if std::thread::panicking() || looped.is_err() {
            eprintln!("{}", self.site.explain());
        }
        self.site.end();
        if let Err(error) = looped {
            panic!("{error:#}");
        }
    }
}

impl Site {
    fn new(test: &str) -> anyhow::Result<Arc<Self>> {
        let id = format!("{:07x}", rand::random::<u32>() >> 4);
        let dir = reaper::make_dir(&id, test)?;
        let reaper = Reaper::start(&id, &dir)?;
        Ok(Arc::new(Self {
            id,
            dir,
            test: test.to_owned(),
            kept: AtomicBool::new(false),
            reaper: Mutex::new(Some(reaper)),
            logs: Mutex::default(),
            changes: loops::Changes::default(),
        }))
    }

    /// The test changes something: what a daemon does from here on may have that cause.
    pub(crate) fn changed(&self) {
        self.changes.note(&self.logs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// The file for the next log of a process of this name: `NAME.log`, then `NAME.2.log`, ….
    pub(crate) fn new_log(&self, name: &str) -> PathBuf {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let path = (1..)
            .map(|count| match count {
                1 => self.dir.join(format!("{name}.log")),
                _ => self.dir.join(format!("{name}.{count}.log")),
            })
            .find(|path| !logs.contains(path))
            .expect("there are more numbers than logs");
        logs.push(path.clone());
        path
    }

    /// The lab's namespaces of now.
    pub(crate) fn namespaces(self: &Arc<Self>) -> anyhow::Result<Vec<Namespace>> {
        let names = reaper::namespaces(&self.id)?;
        Ok(names.iter().map(|name| Namespace::existing(self, name)).collect())
    }

    fn explain(self: &Arc<Self>) -> String {
        let mut text = format!("lab {} of \"{}\"", self.id, self.test);
        for namespace in self.namespaces().unwrap_or_default() {
            let routes = namespace.routes_of(sextant_proto::ROUTE_PROTOCOL).unwrap_or_default();
            if !routes.is_empty() {
                let _ = write!(text, "\n---- Sextant's routes in {} ----", namespace.name());
                let _ = write!(text, "\n{}", routes[..routes.len().min(TAIL)].join("\n"));
            }
        }
        for log in self.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            let _ = write!(text, "\n---- the end of {name} ----\n{}", tail(log, TAIL));
        }
        text
    }

    fn take_reaper(&self) -> Option<Reaper> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn end(&self) {
        let Some(reaper) = self.take_reaper() else { return };
        if let Err(error) = reaper.reap().and_then(|()| reaper::check_gone(&self.id)) {
            eprintln!("lab {}: {error:#}", self.id);
        }
    }
}

impl Drop for Site {
    /// For a lab that could not be made whole.
    fn drop(&mut self) {
        self.end();
    }
}
