//! What the neighbour is told: what should be announced, as it changes.

use std::io;

use rustbgpd_fsm::SessionState;

use super::Neighbour;
use crate::bgp::{
    paths::news,
    peer::open::Restart,
    wire::encode::{self, Voice},
};

impl Neighbour {
    pub(super) async fn established(&mut self) -> io::Result<()> {
        (self.failures, self.restart) = (0, Restart { restarted: false, preserved: true });
        self.refuse_rival().await;
        self.told.clear();
        self.status.established();
        if let Some(learner) = &self.learner {
            learner.up();
        }
        self.send_news().await?;
        let Some(voice) = self.voice() else { return Ok(()) };
        let end = encode::end_of_rib(&voice).map_err(io::Error::other)?;
        self.write(&end).await
    }

    pub(super) async fn tell_news(&mut self) {
        if self.fsm.state() != SessionState::Established {
            return;
        }
        if let Err(error) = self.send_news().await {
            self.failed(&error).await;
        }
    }

    async fn send_news(&mut self) -> io::Result<()> {
        let wanted = self.wanted.borrow_and_update().paths.clone();
        let news = news(&self.told, &wanted);
        let Some(voice) = self.voice() else { return Ok(()) };
        for update in encode::updates(&news, &voice).map_err(io::Error::other)? {
            self.write(&update).await?;
            self.status.sent();
        }
        self.status.announced(wanted.len());
        self.told = wanted;
        Ok(())
    }

    pub(super) fn voice(&self) -> Option<Voice<'_>> {
        let (own_address, own_link_local) = self.connection.as_ref()?.own()?;
        Some(Voice {
            local_as: self.bgp.local_as,
            neighbour: &self.settings,
            own_address,
            own_link_local,
            four_octet_as: self.four_octet_as,
        })
    }
}
