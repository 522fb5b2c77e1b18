//! What a received message causes: an answer, a question to the containers, or news of an address in use.

use tokio::time::Instant;

use super::{Answer, Form, Proxy, Sent, Unanswered, Uplink};
use crate::{
    message::{Kind, Mac, Message},
    targets::Waiting,
};

impl Proxy {
    /// A valid message on a link, from this link-layer address. Returns what it causes.
    pub fn received(&mut self, link: u32, from: Mac, message: &Message, now: Instant) -> Vec<Sent> {
        if self.place.bridges.iter().any(|bridge| bridge.link == link) {
            return self.heard(link, from, message, now);
        }
        let Some(uplink) = self.place.uplinks.iter().find(|uplink| uplink.link == link).copied() else {
            return Vec::new();
        };
        match message.kind {
            Kind::Advertisement => {
                self.note_other(from, message, now);
                Vec::new()
            }
            Kind::Solicitation => {
                let judged = self.judge(&uplink, from, message, now);
                self.counts.of(link).count(Form::of(message), judged);
                self.unheeded.follow(from, message, judged, now);
                let mac = message.mac.unwrap_or(from);
                judged.map_or(vec![], |()| vec![self.answer(&uplink, message.target, message.source, mac)])
            }
        }
    }

    /// Whether a solicitation on an uplink is answered now.
    fn judge(
        &mut self,
        uplink: &Uplink,
        from: Mac,
        message: &Message,
        now: Instant,
    ) -> Result<(), Unanswered> {
        let (link, target) = (uplink.link, message.target);
        let is_ours = self.place.is_containers(target) || self.is_own(target);
        if !is_ours || !self.place.is_on_link(link, target) {
            return Err(Unanswered::Elsewhere);
        }
        if !message.is_dad() && self.place.is_this_host(message.source, message.mac.unwrap_or(from)) {
            return Err(Unanswered::Own);
        }
        let kernel_hears = uplink.kernel_hears || !message.destination.is_multicast();
        if kernel_hears && self.kernel.contains(&target) {
            return Err(Unanswered::Kernel);
        }
        if !self.answers.admit(from, now) {
            return Err(Unanswered::Limit);
        }
        if self.is_alive(target) {
            return if self.place.answers || !kernel_hears { Ok(()) } else { Err(Unanswered::Kernel) };
        }
        if self.place.answer == Answer::All && !message.is_dad() {
            return Ok(());
        }
        let form = Form::of(message);
        let waiting = Waiting { link, source: message.source, mac: message.mac.unwrap_or(from), form };
        if self.asks.admit(from, now) && self.targets.wait(target, waiting, now) {
            Err(Unanswered::Unknown)
        } else {
            Err(Unanswered::Limit)
        }
    }

    /// What a container says of its own address.
    fn heard(&mut self, link: u32, from: Mac, message: &Message, now: Instant) -> Vec<Sent> {
        let spoken_of = match message.kind {
            Kind::Solicitation if !message.is_dad() => message.source,
            Kind::Solicitation | Kind::Advertisement => message.target,
        };
        if !self.place.may_be_on(link, spoken_of) {
            return Vec::new();
        }
        if message.is_dad() {
            self.targets.detected(spoken_of, (link, from), now);
            return Vec::new();
        }
        let Some(waiting) = self.targets.heard(spoken_of, (link, from), now) else { return Vec::new() };
        let mut sent = self.announcements(spoken_of);
        sent.iter().for_each(|it| self.counts.of(it.link).advertised += 1);
        self.advertise_again(spoken_of, now);
        for it in waiting {
            let Some(uplink) = self.place.uplinks.iter().find(|uplink| uplink.link == it.link) else {
                continue;
            };
            sent.push(self.answer(uplink, spoken_of, it.source, it.mac));
            self.counts.of(it.link).answer(it.form);
        }
        sent
    }
}
