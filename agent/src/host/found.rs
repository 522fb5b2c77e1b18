//! The problems that the checks of a host have found. Pure.

use crate::problems::Finding;

/// The problems that the last check has found.
#[derive(Debug, Default)]
pub(super) struct FoundProblems {
    /// Changes for earlier settings that cannot be undone.
    pub(super) left: Vec<Finding>,
    pub(super) state: Option<Finding>,
    pub(super) settings: Vec<Finding>,
    /// What a container's router advertisement has given to the host.
    pub(super) learned: Vec<Finding>,
    /// Limits of neighbours that cannot be set.
    pub(super) neighbours: Vec<Finding>,
    /// Uplinks whose new link-layer address the kernel cannot announce.
    pub(super) link_layer: Vec<Finding>,
    /// Uplinks without a link-local address.
    pub(super) link_locals: Vec<Finding>,
    /// What other processes have changed.
    pub(super) drift: Vec<Finding>,
    /// What other programs that manage the network are set to do, while anything was changed.
    pub(super) managers: Vec<Finding>,
}

impl FoundProblems {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Finding> {
        let lists = [
            &self.settings,
            &self.left,
            &self.learned,
            &self.neighbours,
            &self.link_layer,
            &self.link_locals,
            &self.drift,
            &self.managers,
        ];
        self.state.iter().chain(lists.into_iter().flatten())
    }
}
