//! A lab and its switch: owns the lab's id, its directory and its removal.
//!
//! Namespaces are named `sx<id>-sw`, `sx<id>-<host>` and `sx<id>-<host>-<container>`, so that labs on one machine do not
//! collide and a reaper finds the namespaces of its lab. The reaper is a child process in a session of its own. It reads from
//! a pipe of which only this process holds the other end. When this process ends, however that happens, the reaper removes
//! the lab.

pub mod authority;
pub mod binary;
pub mod booted;
pub mod cgroup;
pub mod clock;
pub mod counters;
pub mod daemons;
pub mod disk;
pub mod docker;
pub mod etcd;
pub mod flood;
pub mod host;
pub mod image;
pub mod keeper;
mod logs;
mod loops;
pub mod monitor;
pub mod namespace;
pub mod neighbours;
pub mod ping;
pub mod podman;
pub mod poll;
pub mod process;
mod reaper;
pub mod roots;
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

/// How many last lines of each log a failing test prints.
const TAIL: usize = 25;

/// A switch, its hosts and their containers; removed on drop.
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    switch: Namespace,
    hosts: AtomicU16,
}

/// The state that all parts of a lab share.
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
    /// Creates a lab with a switch: a bridge `br0` with [`Lab::controller_address`] 1.
    ///
    /// # Errors
    /// Without root, or if `ip` is missing.
    pub fn new(test: &str) -> anyhow::Result<Self> {
        if !Uid::effective().is_root() {
            bail!("the lab creates network namespaces, which needs root; run it with sudo or tests/run");
        }
        static SWEPT: Once = Once::new();
        let mut swept = Ok(());
        SWEPT.call_once(|| swept = reaper::sweep());
        swept.context("leftover labs cannot be removed")?;
        let site = Site::new(test)?;
        let switch = Namespace::add(&site, "sw")?;
        let address = Self::controller_address(1);
        // A bridge without a fixed MAC address changes it when ports are added; neighbours would use the old one.
        switch.ip_batch(&format!(
            "link set lo up
             link add br0 address 02:01:00:00:00:0c type bridge mcast_snooping 0
             address add {address}/64 dev br0 nodad
             link set br0 up"
        ))?;
        Ok(Self { site, switch, hosts: AtomicU16::new(0) })
    }

    /// The address of the controller with this number: `2001:db8::c:<number>`, in the switch's namespace.
    pub fn controller_address(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc, number)
    }

    /// The lab's id, for [`remove`].
    pub fn id(&self) -> &str {
        &self.site.id
    }

    /// The lab's directory with logs, state directories and stores. It is removed with the lab.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// Checks that no daemon of Sextant flooded its log: fewer than a hundred lines of level info and above in any minute.
    ///
    /// # Errors
    /// If one did.
    pub fn logs_are_quiet(&self) -> anyhow::Result<()> {
        logs::check_rate(self.dir())
    }

    /// Checks that no daemon of Sextant made the same transition more than ten times while the test changed nothing. Each lab
    /// checks this on drop, and panics if it fails.
    ///
    /// # Errors
    /// If one did, with the transition.
    pub fn no_daemon_loops(&self) -> anyhow::Result<()> {
        let logs = self.site.logs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        logs.iter().try_for_each(|log| loops::check_log(log, &self.site.changes.of(log)))
    }

    /// The switch's namespace: a bridge `br0` with port `p<N>` to host N. The controllers run here by default.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Adds a host of this name, connected to the switch by `eth0`. The Nth host has address `2001:db8::N/64`.
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

    /// Adds a router at `2001:db8::fe:1` that forwards and has no routes beyond the hosts' link. With
    /// [`Host::default_route_via`], its counters show packets that follow the default route.
    ///
    /// # Errors
    /// If there already is one or `ip` fails.
    pub fn router(&self) -> anyhow::Result<Host> {
        let router =
            Host::add_at(self, "router", "prouter", Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xfe, 1))?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(router)
    }

    /// Keeps the lab and its processes after this process ends, until [`remove`]. Returns the id.
    ///
    /// # Errors
    /// If the lab's directory cannot be written.
    pub fn keep(self) -> anyhow::Result<String> {
        reaper::mark_kept(&self.site.dir)?;
        self.site.kept.store(true, Ordering::Relaxed);
        if let Some(reaper) = self.site.take_reaper() {
            reaper.disarm()?;
        }
        Ok(self.site.id.clone())
    }

    /// The lab's name, Sextant's routes and the last lines of all logs, for a failing test's message.
    pub fn diagnostics(&self) -> String {
        self.site.diagnostics()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let loops = match std::thread::panicking() {
            true => Ok(()),
            false => self.no_daemon_loops(),
        };
        if std::thread::panicking() || loops.is_err() {
            eprintln!("{}", self.site.diagnostics());
        }
        self.site.remove();
        if let Err(error) = loops {
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

    /// Records that the test changes something, which may cause transitions of daemons.
    pub(crate) fn changed(&self) {
        self.changes.record(&self.logs.lock().unwrap_or_else(PoisonError::into_inner));
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
            .expect("the numbers are unbounded");
        logs.push(path.clone());
        path
    }

    /// The lab's present namespaces.
    pub(crate) fn namespaces(self: &Arc<Self>) -> anyhow::Result<Vec<Namespace>> {
        let names = reaper::namespaces(&self.id)?;
        Ok(names.iter().map(|name| Namespace::existing(self, name)).collect())
    }

    fn diagnostics(self: &Arc<Self>) -> String {
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
            let _ = write!(text, "\n---- last lines of {name} ----\n{}", tail(log, TAIL));
        }
        text
    }

    fn take_reaper(&self) -> Option<Reaper> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn remove(&self) {
        let Some(reaper) = self.take_reaper() else { return };
        if let Err(error) = reaper.reap().and_then(|()| reaper::check_removed(&self.id)) {
            eprintln!("lab {}: {error:#}", self.id);
        }
    }
}

impl Drop for Site {
    /// For a lab whose creation failed.
    fn drop(&mut self) {
        self.remove();
    }
}
