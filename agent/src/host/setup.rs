//! How far the setup of the host has come, and what prevents it. Pure.

use sextant_proto::{Claim, Prefix};

use crate::{kernel::KernelError, problems::Finding, state::StateError};

/// The state of the host's setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// The host forwards for its containers.
    Ready,
    /// It does, except for those with addresses of these prefixes, each for its reason; tried again.
    Without(Vec<(Prefix, Finding)>),
    /// The host is not set up, for this reason; tried again.
    Waiting(Finding),
}

/// An error that prevents the setup.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error("waiting for bridge \"{}\"; give {} {}", .0.bridge, .0.engine(), .0.prefixes())]
    NoBridge(Awaited),
    #[error("{}", .0.saw)]
    NoIpv6(Finding),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl SetupError {
    /// Whether the exchange with the kernel failed.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Kernel(KernelError::Broken(_)))
    }

    pub(super) fn finding(&self) -> Finding {
        match self {
            Self::NoBridge(awaited) => Finding::unready("bridge-missing", self.to_string(), awaited.fix()),
            Self::NoIpv6(finding) => finding.clone(),
            Self::State(error) => {
                let (saw, fix) = error.parts();
                Finding::unready("state-directory", saw, fix)
            }
            Self::Kernel(KernelError::SysctlNotSet { path, value, .. }) => Finding::unready(
                "host-setup-refused",
                self.to_string(),
                format!(
                    "let sextant-agent write to /proc/sys (in a container: --privileged), or set it in the agent's network namespace: \
                     sysctl -w {path}={value}"
                ),
            ),
            Self::Kernel(_) => Finding::unready(
                "host-setup-refused",
                self.to_string(),
                "see sextant-agent's log on the host",
            ),
        }
    }

    /// The problem of one claim, while another one works.
    pub(super) fn finding_of(&self, claim: &Claim) -> Finding {
        let finding = self.finding();
        let saw =
            format!("host prefix {} of pool {} is not used: {}", claim.prefix, claim.pool.name, finding.saw);
        Finding { saw, unready: false, ..finding }.about(claim.prefix.to_string())
    }
}

/// A bridge that the container engine is to make.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) bridge: String,
    /// The container prefixes of the claims.
    pub(super) wanted: Vec<Prefix>,
}

impl Awaited {
    fn is_dockers(&self) -> bool {
        self.bridge == "docker0"
    }

    fn engine(&self) -> &'static str {
        if self.is_dockers() { "Docker" } else { "the container engine" }
    }

    fn prefixes(&self) -> String {
        self.wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn fix(&self) -> String {
        let create = "create the bridge, or let the agent create it ([bridge] create = true in agent.toml, or --bridge-create)";
        match self.wanted.first().filter(|_| self.is_dockers()) {
            Some(prefix) => format!(
                "set \"ipv6\": true and \"fixed-cidr-v6\": \"{prefix}\" in /etc/docker/daemon.json, and start Docker again \
                 (`systemctl restart docker`); or let the agent keep a network in Docker ([docker] mode = \"network\" in agent.toml); \
                 or {create}"
            ),
            None => format!("start the container engine, {create}"),
        }
    }
}

/// The host holds no prefix.
pub(crate) fn no_claim() -> Finding {
    Finding::unready(
        "no-claim",
        "no host prefix is claimed yet",
        "see sextant-agent's log on the host: no controller is reachable, or the controller refuses the claim",
    )
}
