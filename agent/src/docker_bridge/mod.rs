//! `[docker] mode = "daemon"` and `"pools"`: Docker's own bridge has the container prefix, by its `daemon.json`.
//!
//! The agent may not write that file, so it only reports where file, engine and bridge disagree with the claim ([`judge`]); the
//! fix is `sextant-agent docker setup`. That the engine is away, [`containers`](crate::containers) reports. It keeps the rules beside the engine's firewall itself.

mod judge;

use std::{io, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use sextant_docker::{
    engine::{Engine, EngineError},
    firewall::{
        keeper::FirewallKeeper,
        policy::{Passes, Port},
    },
};
use sextant_docker_setup::{
    file::{self, FileError},
    json::Document,
    plan::{Engine as Seen, Prefixes},
};
use tokio::sync::watch::{self, error::RecvError};

use self::judge::{Configured, findings};
use crate::{
    cluster::Input,
    docker::{finding, policy_of},
    docker_setup::{DEFAULT_NETWORK, read_bridge, seen_of},
    kernel::Kernel,
    problems::{Component, Problems},
    settings::{DockerMode, DockerSettings, Settings},
};

/// How soon an engine that is away is looked for again.
const AWAY: Duration = Duration::from_secs(2);
/// A look without an event: changes of the file and of the bridge tell nobody.
const RESYNC: Duration = Duration::from_secs(10);
/// How long events are collected.
const SETTLE: Duration = Duration::from_millis(250);

/// The default bridge of the host's engine.
pub struct DockerBridge {
    settings: DockerSettings,
    bridge: String,
    kernel: Arc<dyn Kernel>,
    input: watch::Receiver<Input>,
    problems: Problems,
    firewall: FirewallKeeper,
}

impl DockerBridge {
    /// By the agent's settings; none in another mode.
    pub fn by(
        settings: &Settings,
        kernel: Arc<dyn Kernel>,
        input: watch::Receiver<Input>,
        problems: Problems,
    ) -> Option<Self> {
        let bridge = settings.bridge.name.clone();
        let is_ours = |docker: &DockerSettings| matches!(docker.mode, DockerMode::Daemon | DockerMode::Pools);
        let settings = settings.docker.clone().filter(is_ours)?;
        Some(Self { settings, bridge, kernel, input, problems, firewall: FirewallKeeper::default() })
    }

    /// Watches it. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), RecvError> {
        loop {
            if let Ok(engine) = Engine::connect(&self.settings.socket).await {
                self.follow(&engine).await?;
            }
            // File and bridge still tell enough.
            self.look(Seen::default(), None).await;
            tokio::select! {
                changed = self.input.changed() => changed?,
                () = tokio::time::sleep(AWAY) => {}
            }
        }
    }

    /// Follows an engine until it goes.
    async fn follow(&mut self, engine: &Engine) -> Result<(), RecvError> {
        let mut changes = pin!(engine.changes());
        loop {
            let Ok(seen) = seen_of(engine).await else { return Ok(()) };
            let Ok(published) = self.published(engine, &seen).await else { return Ok(()) };
            self.look(seen, Some(published)).await;
            tokio::select! {
                change = changes.next() => match change {
                    Some(()) => tokio::time::sleep(SETTLE).await,
                    None => return Ok(()),
                },
                changed = self.input.changed() => changed?,
                () = self.firewall.look() => {}
                () = tokio::time::sleep(RESYNC) => {}
            }
            while let Some(Some(())) = changes.next().now_or_never() {}
        }
    }

    /// The published ports of containers on the engine's own network and, with pools, on the others.
    async fn published(&self, engine: &Engine, seen: &Seen) -> Result<Vec<Port>, EngineError> {
        let Some(passes) = self.wanted().map(|(_, passes)| passes) else { return Ok(Vec::new()) };
        let mut published = Vec::new();
        if passes.needs_published() {
            let others = seen.others.iter().filter(|(_, prefix)| passes.own.covers(*prefix));
            for network in std::iter::once(DEFAULT_NETWORK).chain(others.map(|(name, _)| name.as_str())) {
                published.extend(engine.published(network).await?);
            }
        }
        published.sort();
        published.dedup();
        Ok(published)
    }

    /// Keeps the firewall's rules, and reports what is found.
    async fn look(&mut self, mut seen: Seen, published: Option<Vec<Port>>) {
        let Some((prefixes, passes)) = self.wanted() else {
            self.problems.report(Component::Docker, Vec::new());
            return;
        };
        let trouble = self.firewall.keep(&passes, published).await;
        let mut found: Vec<_> = trouble.iter().map(finding).collect();
        seen.bridge.clone_from(&self.bridge);
        if let Err(error) = read_bridge(self.kernel.as_ref(), &mut seen).await {
            tracing::debug!(%error, "bridge not read");
        }
        let configured = configured(&self.settings.daemon_json);
        let with_pools = self.settings.mode == DockerMode::Pools;
        found.extend(findings(&self.settings.daemon_json, &configured, &prefixes, &seen, with_pools));
        self.problems.report(Component::Docker, found);
    }

    /// The prefixes of the primary claim, and the packets that pass.
    fn wanted(&self) -> Option<(Prefixes, Passes)> {
        let input = self.input.borrow();
        let primary = input.claims.first()?;
        let prefixes = Prefixes {
            host: primary.prefix,
            container: primary.container_prefix(),
            pools: input.claims.iter().map(|claim| claim.pool.prefix).collect(),
        };
        let passes = policy_of(&self.settings, &input)?;
        Some((prefixes, passes))
    }
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
