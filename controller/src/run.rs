//! Creates the services of a controller, and runs their tasks.
//!
//! Essential tasks: the index (ends if the store is replaced), the sessions, the verdicts, the elapsed time, the recovery
//! window, the list of controllers, the audit's sweeper and refused calls, automatic backups, gRPC, probes.

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use futures::Stream;
use rand::Rng;
use sextant_authority::{Authority, Directory, Signer};
use sextant_daemon::{
    Essential, Failing, Metrics, Outage, Probes, Readiness, init_logging, raise_descriptor_limit,
    stop_signal,
    systemd::{self, Heartbeat, Watchdog},
};
use sextant_identity::{Credentials, SharedDial, SignerName, Tcp, TlsDial};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};

use crate::{
    acks::Acks,
    audit::RefusedCalls,
    backup::{self, Automatic, Uploads},
    claims::Claims,
    connections::{Connections, Security},
    controllers::OtherControllers,
    denials::{Denials, Mirror},
    expiry::Expiry,
    format,
    grpc::{self, Connected},
    health::Health,
    index::{Index, IndexTask},
    keys::Keys,
    kubernetes::Reviews,
    limits::Usage,
    metrics,
    pools::Pools,
    questions::Questions,
    receipts::{Receipts, Signing},
    records::{Meta, TlsMode},
    refusals::Refusals,
    registry::{
        RegistryError, SharedRegistry,
        embedded::{EmbeddedStore, FindBackup, NamedBackup, Options},
        etcd::{EtcdOptions, EtcdStore},
    },
    reservations::Reservations,
    services::Services,
    sessions::{Identity, Replaces, Sessions},
    settings::{CommandLine, EtcdAccess, ReceiptKey, Settings, Store, Tls},
    store,
    sweeper::Sweeper,
    ticker::{Ticker, Waits},
    tokens::Tokens,
    unregistered::RefusedClaims,
    verdicts::Verdicts,
};

/// How long to wait before the next attempt to open the store.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// By how much each attempt to open the store extends systemd's start time-out: the start waits as long as the store is
/// unavailable, but systemd ends a start that hangs.
const STORE_START_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the controller until it is stopped.
///
/// # Errors
/// If it cannot start, or an essential task ends.
pub async fn run(command_line: &CommandLine) -> anyhow::Result<()> {
    let settings = command_line.settings()?;
    init_logging(&settings.log, settings.log_format).map_err(anyhow::Error::msg)?;
    let mut stop = pin!(stop_signal().context("cannot listen for signals")?);
    // Addresses before the store: a second controller fails at its port, and touches nothing.
    let listener = grpc::listen(settings.listen).await?;
    let authority = authority(&settings)?;
    let credentials = credentials(&settings, authority.as_ref())?;
    let OpenStore { registry, writer } = open_store(&settings).await?;
    let watchdog = Watchdog::from_environment();
    let me = identity(listener.local_addr()?, &settings);
    let dial: SharedDial = match (&credentials, settings.tls_mode) {
        (Some(credentials), TlsMode::Warn) => Arc::new(TlsDial::or_plain_text(credentials.clone())),
        (Some(credentials), _) => Arc::new(TlsDial::new(credentials.clone())),
        (None, _) => Arc::new(Tcp),
    };
    let signing = signing(&settings, authority.as_ref(), &me)?;
    let edges = Edges { registry, me, dial, authority, signing, heartbeat: watchdog.heartbeat() };
    let controller = tokio::select! {
        controller = Controller::open(&settings, edges) => controller?,
        // The start waits while etcd is unavailable.
        () = &mut stop => return Ok(()),
    };
    let readiness = controller.services.sessions.readiness();
    let metrics = metrics::registry(&controller.services, credentials.clone());
    let probes = serve_probes(&settings, metrics, readiness.clone());

    let mut tasks = Essential::default();
    if let Some(store) = writer {
        tasks.spawn("store", store_writes(store));
    }
    let incoming =
        controller.services.connections.clone().incoming(listener, security(&settings, &credentials));
    controller.spawn(&mut tasks, &settings, incoming, credentials);
    tasks.spawn("status", report_status(readiness));
    tasks.spawn("http", probes);
    tasks.spawn("watchdog", watchdog.run());
    announce_start(&settings);
    tasks.until(stop).await?;
    systemd::notify_stopping();
    Ok(())
}

/// The external dependencies of a controller.
pub struct Edges {
    /// The store.
    pub registry: SharedRegistry,
    /// Its identity and address.
    pub me: Identity,
    /// Connects to other controllers.
    pub dial: SharedDial,
    /// The cluster's own authority, if it has its files.
    pub authority: Option<Authority>,
    /// The key of receipts.
    pub signing: Signing,
    /// The heartbeat of its main loop.
    pub heartbeat: Heartbeat,
}

/// A controller without its dependencies on the host.
pub struct Controller {
    /// Its services.
    pub services: Services,
    index_task: IndexTask,
    /// None: there is no file for it.
    mirror: Option<Mirror>,
}

impl Controller {
    /// Reads the store, and creates the services.
    ///
    /// # Errors
    /// If the store cannot be read. An etcd cluster that is unavailable is retried.
    pub async fn open(settings: &Settings, edges: Edges) -> anyhow::Result<Self> {
        let Edges { registry, me, dial, authority, signing, heartbeat } = edges;
        let keys = Keys::new(&settings.cluster);
        let meta = open_meta(settings, &registry, &keys).await.context("opening the store")?;
        let (index_task, index) =
            IndexTask::start(registry.clone(), keys.clone(), meta).await.context("listing the store")?;
        let required = settings.tls_mode == TlsMode::Strict;
        let receipts = Receipts::new(settings.cluster.clone(), signing, required, index.clone());
        let services = services(settings, registry, keys, index, me, dial, heartbeat);
        let services = Services { authority, receipts, ..services };
        let mirror = mirror(settings, &services).await?;
        Ok(Self { services, index_task, mirror })
    }

    /// Starts the modules' tasks, which serve `incoming` connections.
    pub fn spawn<C, E>(
        self,
        tasks: &mut Essential,
        settings: &Settings,
        incoming: impl Stream<Item = Result<C, E>> + Send + 'static,
        credentials: Option<Arc<Credentials>>,
    ) where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        C::ConnectInfo: Clone + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let Self { services, index_task, mirror } = self;
        tasks.spawn("index", index_task.run());
        if let Some(mirror) = mirror {
            tasks.spawn("denials", mirror.run());
        }
        tasks.spawn("sessions", services.sessions.clone().run(services.index.clone()));
        tasks.spawn("controllers", services.others.clone().follow());
        tasks.spawn("verdicts", verdicts(&services).run());
        tasks.spawn("elapsed", ticker(settings, &services).run());
        tasks.spawn("expiry", expiry(settings, &services).run());
        tasks.spawn(
            "recovery",
            store::close_recovery(
                services.registry.clone(),
                services.keys.clone(),
                services.index.clone(),
                services.refused_claims.clone(),
                settings.recovery_window,
            ),
        );
        tasks.spawn("format", {
            let (registry, keys) = (services.registry.clone(), services.keys.clone());
            format::keep_low(registry, keys, services.index.clone())
        });
        tasks.spawn("backups", {
            let (registry, keys) = (services.registry.clone(), services.keys.clone());
            services.backups.clone().run(registry, keys, services.cluster.clone())
        });
        tasks.spawn("audit", sweeper(&services, settings.audit).run());
        tasks.spawn("refused calls", {
            services.refused_calls.clone().run(services.registry.clone(), services.keys.clone())
        });
        tasks.spawn("grpc", grpc::serve(incoming, services, credentials, settings.reflection));
    }
}

/// The copy of the revocations. A new store gets them before anybody is served.
async fn mirror(settings: &Settings, services: &Services) -> anyhow::Result<Option<Mirror>> {
    let Some(path) = settings.denials_file.clone() else { return Ok(None) };
    let Services { registry, keys, index, .. } = services.clone();
    let mut mirror = Mirror::open(path, registry, keys, index)?;
    if let Err(error) = mirror.follow().await {
        tracing::warn!(%error, "the copy of the revocations is not up to date");
    }
    Ok(Some(mirror))
}

/// The cluster's own authority, if this controller has its files.
fn authority(settings: &Settings) -> anyhow::Result<Option<Authority>> {
    let Some(Tls::Own { directory, lifetime }) = &settings.tls else { return Ok(None) };
    let opened = Authority::open(Directory::new(directory), *lifetime);
    Ok(Some(opened.with_context(|| format!("--pki {}", directory.display()))?))
}

/// The key of receipts.
fn signing(settings: &Settings, authority: Option<&Authority>, me: &Identity) -> anyhow::Result<Signing> {
    if let Some(authority) = authority {
        return Ok(Signing::Authority(authority.clone()));
    }
    let required = settings.tls_mode == TlsMode::Strict;
    let Some(ReceiptKey { path, is_set }) = &settings.receipt_key else {
        if required {
            tracing::warn!(
                "no receipts of claims are signed: if the store is lost, its nodes register only after \
                 `sextant recover --accept-unsigned`; set receipt-key to a file that all controllers have copies of"
            );
        }
        return Ok(Signing::Off);
    };
    let name = SignerName { cluster: settings.cluster.clone(), controller: me.id.parse()? };
    match Signer::of_key(path, &name, SystemTime::now()) {
        Ok(signer) => Ok(Signing::Key(Arc::new(signer))),
        Err(error) if *is_set => Err(error).with_context(|| format!("--receipt-key {}", path.display())),
        Err(error) => {
            tracing::warn!(%error, "no receipts of claims are signed until the next start");
            Ok(Signing::Off)
        }
    }
}

/// The credentials for TLS; none for plain text.
fn credentials(
    settings: &Settings,
    authority: Option<&Authority>,
) -> anyhow::Result<Option<Arc<Credentials>>> {
    let cluster = Some(settings.cluster.clone());
    let opened = match (&settings.tls, authority) {
        (_, Some(authority)) => Some(Credentials::open(authority.clone(), cluster)?),
        (Some(Tls::Files(paths)), None) => Some(Credentials::open(paths.clone(), cluster)?),
        _ => None,
    };
    Ok(opened.map(Arc::new))
}

/// Serves the probes. An address that is taken costs nothing else.
fn serve_probes(
    settings: &Settings,
    metrics: Metrics,
    readiness: Readiness,
) -> impl Future<Output = std::io::Result<()>> + Send + use<> {
    let mut outage = Outage::default();
    let mut failures = 0;
    Probes::serve_when_free(settings.http, metrics, readiness, move |error| {
        if let Some(error) = error {
            failures += 1;
            if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                tracing::warn!(%error, failures, for_secs, "no metrics and probes; the controller serves, and tries again");
            }
        } else if failures > 0 {
            tracing::info!(failures, "metrics and probes are served");
        }
    })
}

/// A store, and its essential task.
struct OpenStore {
    registry: SharedRegistry,
    writer: Option<Arc<EmbeddedStore>>,
}

async fn open_store(settings: &Settings) -> anyhow::Result<OpenStore> {
    match &settings.store {
        Store::Embedded(path) => {
            let backups = settings.backup_dir.clone().map(backup::Directory::new);
            let backups = backups.map(|directory| Arc::new(directory) as Arc<dyn FindBackup>);
            let earlier = if path.exists() { None } else { backups.as_ref().and_then(|it| it.newest()) };
            let store = Arc::new(EmbeddedStore::open_with(path, Options::with_backups(backups))?);
            if let Some(NamedBackup { file, taken }) = earlier {
                tracing::warn!(
                    store = ?path, newest = ?file, taken,
                    "new store created, but backups of an earlier one exist; to return to it: sextant restore FILE"
                );
            }
            Ok(OpenStore { registry: store.clone(), writer: Some(store) })
        }
        Store::Etcd(urls) => {
            let EtcdAccess { login, tls } = settings.etcd.clone();
            let options = EtcdOptions { login, tls, ..EtcdOptions::new(urls) };
            Ok(OpenStore { registry: Arc::new(EtcdStore::connect(options).await?), writer: None })
        }
    }
}

/// The meta record of the store. A file must be available at once; an etcd cluster is retried.
async fn open_meta(
    settings: &Settings,
    registry: &SharedRegistry,
    keys: &Keys,
) -> Result<Meta, RegistryError> {
    let mut outage = Outage::default();
    loop {
        match store::open(registry, keys).await {
            Err(RegistryError::Unavailable(why)) if matches!(settings.store, Store::Etcd(_)) => {
                if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                    tracing::warn!(why, failures, for_secs, "store does not answer yet; retrying");
                }
                systemd::notify_status(&format!("waiting for the store: {why}"));
                systemd::notify_starting(STORE_START_TIMEOUT);
                tokio::time::sleep(STORE_RETRY).await;
            }
            other => return other,
        }
    }
}

/// Ends when the writer of the store ends, which only a bug can cause.
async fn store_writes(store: Arc<EmbeddedStore>) -> Result<(), &'static str> {
    store.writer_ended().await;
    Err("the store's writer thread has ended")
}

fn security(settings: &Settings, credentials: &Option<Arc<Credentials>>) -> Security {
    match credentials.clone() {
        None => Security::PlainText,
        Some(credentials) if settings.tls_mode == TlsMode::Warn => Security::Either(credentials),
        Some(credentials) => Security::Tls(credentials),
    }
}

fn identity(address: SocketAddr, settings: &Settings) -> Identity {
    let replaces = match settings.store {
        Store::Embedded(_) => Replaces::All,
        Store::Etcd(_) if address.ip().is_unspecified() || address.ip().is_loopback() => Replaces::None,
        Store::Etcd(_) => Replaces::SameAddress,
    };
    let (id, address) = (format!("{:016x}", rand::rng().random::<u64>()), address.to_string());
    Identity { id, address, replaces, tls: settings.tls_mode }
}

fn services(
    settings: &Settings,
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    me: Identity,
    dial: SharedDial,
    heartbeat: Heartbeat,
) -> Services {
    let (acks, refused_calls) = (Acks::new(index.clone()), RefusedCalls::default());
    let others = OtherControllers::new(index.clone(), acks.clone(), me.clone(), dial);
    let sessions = Sessions::new(registry.clone(), keys.clone(), me, settings.down_after, heartbeat);
    Services {
        questions: Questions::default(),
        connections: Connections::new(
            raise_descriptor_limit(),
            settings.max_connections,
            settings.idle_timeout,
            &settings.limits,
            refused_calls.clone(),
        ),
        usage: Usage::new(settings.limits),
        uploads: Uploads::new(uploads(&settings.store)),
        others,
        health: Health::new(registry.clone(), keys.clone(), index.clone(), sessions.clone()),
        claims: Claims::new(registry.clone(), keys.clone(), index.clone(), settings.quarantine)
            .with_shorter_host_len(settings.limits.shorter_host_len),
        reservations: Reservations::new(registry.clone(), keys.clone(), index.clone()),
        pools: Pools::new(registry.clone(), keys.clone(), index.clone()),
        tokens: Tokens::new(registry.clone(), keys.clone(), index.clone()),
        reviews: settings.kubernetes.clone().map(Reviews::new),
        authority: None,
        receipts: Receipts::new(settings.cluster.clone(), Signing::Off, true, index.clone()),
        refusals: Refusals::new(index.clone()),
        denials: Denials::new(registry.clone(), keys.clone(), index.clone()),
        refused_calls,
        refused_claims: RefusedClaims::new(index.clone()),
        sessions,
        acks,
        backups: Automatic::new(settings.backups.clone()),
        cluster: settings.cluster.to_string(),
        registry,
        keys,
        index,
    }
}

/// Where backups that are being restored are kept: beside an embedded store, since it has room for what it has.
fn uploads(store: &Store) -> PathBuf {
    let beside = match store {
        Store::Embedded(path) => path.parent().filter(|parent| !parent.as_os_str().is_empty()),
        Store::Etcd(_) => None,
    };
    beside.map_or_else(std::env::temp_dir, Path::to_path_buf)
}

fn verdicts(services: &Services) -> Verdicts {
    let (registry, keys, index) = (services.registry.clone(), services.keys.clone(), services.index.clone());
    Verdicts::new(registry, keys, index, services.sessions.clone(), services.acks.clone())
}

fn sweeper(services: &Services, keep: crate::sweeper::Keep) -> Sweeper {
    let (registry, keys, index) = (services.registry.clone(), services.keys.clone(), services.index.clone());
    Sweeper::new(registry, keys, index, services.sessions.identity().id.clone(), keep)
}

fn ticker(settings: &Settings, services: &Services) -> Ticker {
    let (registry, keys, index) = (services.registry.clone(), services.keys.clone(), services.index.clone());
    let waits = Waits { recovery: settings.recovery_window, quarantine: settings.quarantine };
    Ticker::new(registry, keys, index, waits)
}

fn expiry(settings: &Settings, services: &Services) -> Expiry {
    let (claims, index) = (services.claims.clone(), services.index.clone());
    Expiry::new(claims, index, services.acks.clone(), Arc::new(services.others.clone()), settings.hold_down)
}

fn announce_start(settings: &Settings) {
    let takes_plain_text = settings.tls_mode != TlsMode::Strict;
    if takes_plain_text && (settings.insecure || !settings.listen.ip().is_loopback()) {
        tracing::warn!(
            listen = %settings.listen, tls = %settings.tls_mode,
            "plain text beyond loopback: everyone who reaches this address has full control"
        );
    }
    tracing::info!(listen = %settings.listen, http = %settings.http, store = %settings.store, "controller started");
    systemd::notify_ready();
}

/// Reports to `systemctl status` whether the store answers.
async fn report_status(mut readiness: Readiness) -> Result<(), watch::error::RecvError> {
    loop {
        match &*readiness.borrow_and_update() {
            Ok(()) => systemd::notify_status("serving; the store answers"),
            Err(why) => systemd::notify_status(&format!("serving, but {why}")),
        }
        readiness.changed().await?;
    }
}
