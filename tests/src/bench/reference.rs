//! The reference of the targets: one store commit and one round trip.
//!
//! The commit uses the controller's store code: on a file beside the controller's embedded store, or on the same etcd. The
//! round trip is a small message over a TCP connection from a host to the controllers' namespace, so it is shorter than a
//! gRPC call.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::ensure;
use sextant_controller::registry::{
    Guard, Op, Outcome, SharedRegistry, Txn,
    embedded::EmbeddedStore,
    etcd::{EtcdOptions, EtcdStore},
};
use tokio::runtime::{self, Runtime};

use super::numbers::Times;
use crate::{Etcd, Host, Lab, SECONDS};

/// The size of a message or value in octets: about that of a node's record.
const SIZE: usize = 128;

/// Measures the reference during a benchmark.
pub(super) struct Reference {
    runtime: Runtime,
    store: SharedRegistry,
    stream: TcpStream,
    pub(super) commits: Times,
    pub(super) round_trips: Times,
}

impl Reference {
    /// Opens `etcd`, or a store in the lab's directory, and a connection from `host` to the controllers' namespace.
    pub(super) fn new(lab: &Lab, etcd: Option<&Etcd>, host: &Host) -> anyhow::Result<Self> {
        let listener = lab.switch().enter(|| TcpListener::bind((Lab::controller_address(1), 0)))??;
        let target = listener.local_addr()?;
        // Ends with the connection.
        thread::spawn(move || echo(&listener));
        let stream = host.enter(|| TcpStream::connect_timeout(&target, SECONDS))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(10 * SECONDS))?;
        // Its threads start in etcd's namespace, and stay there.
        let runtime = lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build())??;
        let store: SharedRegistry = match etcd {
            Some(etcd) => {
                let options = EtcdOptions::new(etcd.urls());
                Arc::new(runtime.block_on(runtime.spawn(EtcdStore::connect(options)))??)
            }
            None => Arc::new(EmbeddedStore::open(&lab.dir().join("reference"))?),
        };
        Ok(Self { runtime, store, stream, commits: Times::default(), round_trips: Times::default() })
    }

    /// Measures one commit and one round trip. A commit right after another is faster than a single one, and a joining host
    /// causes single ones.
    pub(super) fn measure(&mut self) -> anyhow::Result<()> {
        self.commit()?;
        self.round_trip()
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let key = format!("reference/{:08}", self.commits.len());
        let guards = vec![Guard::Absent(key.clone())];
        let ops = vec![Op::put(key, vec![7; SIZE])];
        let store = self.store.clone();
        let timed = async move {
            let began = Instant::now();
            let outcome = store.commit(Txn { guards, ops }).await?;
            anyhow::Ok((began.elapsed(), outcome))
        };
        let (took, outcome) = self.runtime.block_on(self.runtime.spawn(timed))??;
        self.commits.push(took);
        ensure!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        Ok(())
    }

    fn round_trip(&mut self) -> anyhow::Result<()> {
        let mut message = [7; SIZE];
        let began = Instant::now();
        self.stream.write_all(&message)?;
        self.stream.read_exact(&mut message)?;
        self.round_trips.push(began.elapsed());
        Ok(())
    }
}

fn echo(listener: &TcpListener) -> io::Result<Infallible> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0; SIZE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}
