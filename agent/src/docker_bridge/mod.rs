//! `[docker] mode = "daemon"` and `"pools"`: Docker's own bridge has the container prefix, by its `daemon.json`.
//!
//! The agent may not write that file, so it only reports where file, engine and bridge disagree with the claim ([`judge`]); the
//! fix is `sextant-agent docker setup`. It keeps the rules beside the engine's firewall itself.

mod judge;

use std::{io, pin::pin, sync::Arc, time::Duration};

use sextant_docker::{
    engine::{Engine, EngineError},
    rules::{Followed, Looked, Observer, RulesKeeper},
    trouble::Trouble,
};
use sextant_docker_setup::{
    file::{self, FileError},
    json::Document,
    plan::{Engine as Seen, Prefixes},
};
use sextant_proto::Claim;
use tokio::sync::watch::{self, error::RecvError};

use self::judge::{Configured, findings};
use crate::{
    cluster::Input,
    docker::{finding, policy_of},
    docker_setup::{read_bridge, seen_of},
    kernel::{Kernel, KernelError, Route},
    problems::{Component, Finding, Problems},
    settings::{DockerMode, DockerSettings, Settings},
};

/// A look without an event: changes of the file and of the bridge's addresses tell nobody.
const RESYNC: Duration = Duration::from_secs(10);

/// The default bridge of the host's engine.
pub struct DockerBridge {
    settings: DockerSettings,
    bridge: String,
    kernel: Arc<dyn Kernel>,
    input: watch::Receiver<Input>,
    problems: Problems,
    /// The routes of `proto boot`.
    routes: watch::Receiver<Arc<Vec<Route>>>,
    followed: Followed,
}

/// Passes on what the engine answers.
struct Answers(watch::Sender<Seen>);

impl Observer for Answers {
    async fn look(&mut self, engine: &Engine, _whole: bool) -> Result<Looked, EngineError> {
        let seen = seen_of(engine).await?;
        self.0.send_if_modified(|before| std::mem::replace(before, seen.clone()) != seen);
        Ok(Looked::default())
    }

    async fn ended(&mut self) {}
}

impl DockerBridge {
    /// By the agent's settings; none in another mode.
    pub fn by(
        settings: &Settings,
        kernel: Arc<dyn Kernel>,
        input: watch::Receiver<Input>,
        problems: Problems,
        routes: watch::Receiver<Arc<Vec<Route>>>,
        followed: Option<Followed>,
    ) -> Option<Self> {
        let bridge = settings.bridge.name.clone();
        let is_ours = |docker: &DockerSettings| matches!(docker.mode, DockerMode::Daemon | DockerMode::Pools);
        let settings = settings.docker.clone().filter(is_ours)?;
        Some(Self { settings, bridge, kernel, input, problems, routes, followed: followed? })
    }

    /// Watches it. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), RecvError> {
        let (seen_tx, mut seen) = watch::channel(Seen::default());
        let (passes_tx, passes) = watch::channel(None);
        let (troubles_tx, mut troubles) = watch::channel(Vec::new());
        let rules = RulesKeeper::new(self.followed.clone(), passes, troubles_tx);
        let mut keeper = pin!(rules.run(Answers(seen_tx)));
        loop {
            let passes = policy_of(&self.settings, &self.input.borrow_and_update(), &[]);
            passes_tx.send_if_modified(|before| std::mem::replace(before, passes.clone()) != passes);
            let of_engine = troubles.borrow_and_update().clone();
            let known = seen.borrow_and_update().clone();
            let routes = self.routes.borrow_and_update().clone();
            self.look(known, &of_engine, &routes).await;
            tokio::select! {
                changed = self.input.changed() => changed?,
                changed = seen.changed() => changed?,
                changed = troubles.changed() => changed?,
                Ok(()) = self.routes.changed() => {}
                () = &mut keeper => return Ok(()),
                () = tokio::time::sleep(RESYNC) => {}
            }
        }
    }

    /// Reports what is found. While the engine is away, file and bridge still tell enough.
    async fn look(&self, seen: Seen, troubles: &[Trouble], routes: &[Route]) {
        let mut found: Vec<_> = troubles.iter().map(served).collect();
        let away = troubles.iter().any(is_away);
        let seen = if away { Seen::default() } else { seen };
        let claims = self.input.borrow().claims.clone();
        match judged(self.kernel.as_ref(), &self.settings, &self.bridge, &claims, seen, routes).await {
            Ok(judged) => found.extend(judged),
            Err(error) => tracing::debug!(%error, "bridge not read"),
        }
        self.problems.report(Component::Docker, found);
    }
}

/// Where file, engine and bridge disagree with the claims; nothing without one. `seen` is what the engine answers, and `routes`
/// are those of `proto boot`.
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) async fn judged(
    kernel: &dyn Kernel,
    settings: &DockerSettings,
    bridge: &str,
    claims: &[Claim],
    seen: Seen,
    routes: &[Route],
) -> Result<Vec<Finding>, KernelError> {
    let Some(prefixes) = Prefixes::of(claims) else { return Ok(Vec::new()) };
    let mut seen = Seen { bridge: bridge.to_owned(), ..seen };
    read_bridge(kernel, routes, &mut seen).await?;
    let (file, with_pools) = (&settings.daemon_json, settings.mode == DockerMode::Pools);
    Ok(findings(file, &configured(file), &prefixes, &seen, with_pools))
}

/// Docker itself gives its containers their addresses: they need no access of the agent.
fn served(trouble: &Trouble) -> Finding {
    Finding { unready: !is_away(trouble), ..finding(trouble) }
}

fn is_away(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Away { .. } | Trouble::NoAccess { .. })
}

/// What the file says. The agent's service user may be unable to read it.
fn configured(path: &std::path::Path) -> Configured {
    match file::read(path) {
        Ok(content) => match Document::parse(content.as_deref()) {
            Ok(document) => Configured::As(document),
            Err(error) => Configured::Unusable(error.to_string()),
        },
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Configured::Unknown
        }
        Err(error) => Configured::Unusable(error.to_string()),
    }
}
