//! The picture of the cluster that the session hands to the other components.

use std::{net::Ipv6Addr, sync::Arc};

use sextant_proto::{Claim, NodeName};
use tokio::sync::watch;

use crate::cluster::{Fence, Input, View};

/// The view, and the addresses of the controllers.
pub(super) struct Picture {
    pub(super) view: View,
    controllers: Vec<Ipv6Addr>,
    input: watch::Sender<Input>,
}

impl Picture {
    /// Without a view yet; `controllers` are those that the settings name by address. It is published on `input`.
    pub(super) fn new(fence: Fence, controllers: Vec<Ipv6Addr>, input: watch::Sender<Input>) -> Self {
        Self { view: View::within(fence), controllers, input }
    }

    /// Publishes it with this node's claims; `withdrawn` is whether the node should have no routes to peers.
    pub(super) fn publish(&self, claims: &[Claim], withdrawn: bool) {
        let (view, controllers) = (Arc::new(self.view.clone()), self.controllers.clone());
        self.input.send_replace(Input { claims: claims.to_vec(), view, withdrawn, controllers });
    }

    /// Publishes it with this node's claims. The node continues to be withdrawn, or not.
    pub(super) fn publish_claims(&self, claims: &[Claim]) {
        // The borrow must end before `publish`.
        let withdrawn = self.input.borrow().withdrawn;
        self.publish(claims, withdrawn);
    }

    /// A controller was reached at these addresses.
    pub(super) fn remember_controller(&mut self, addresses: &[Ipv6Addr]) {
        for address in addresses {
            if !self.controllers.contains(address) {
                self.controllers.push(*address);
            }
        }
    }

    /// This node received a claim that it did not hold in any store. Either the view has it, or it is newer than the view. If the
    /// view has a later revision, the store was taken back to an earlier state; and if an earlier claim was refused, no second
    /// node has reported the lost history. A node that registers its prefix keeps the view: a second node may still report that
    /// history to the controllers.
    pub(super) fn disown_if_newer(&mut self, node: &NodeName, claim: &Claim) {
        let epoch = claim.epoch;
        let known = self.view.peer(node).and_then(|own| own.claim_of(claim.prefix));
        if self.view.reaches(epoch) && known.is_none_or(|known| known.claimed != epoch.revision) {
            let seen = self.view.revision();
            tracing::warn!(%epoch, %seen, "new claim older than the view: store taken back to an earlier state; waiting for a snapshot");
            self.view.disown();
        }
    }
}
