//! Gives an input to the decoder and to the decision, as the responder does.

use std::{fmt::Write, time::Duration};

use tokio::time::Instant;

use super::{
    case::{Case, Event, of_the_kernel, shown},
    rfc,
};
use crate::{
    message::{Message, decode},
    proxy::{Proxy, Sent, Unanswered},
};

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) now: Instant,
    pub(super) why: Why,
    pub(super) sent: Vec<Sent>,
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The packet of this event was read.
    Packet { event: usize, read: Option<Message>, decided: Option<Decided> },
    /// Solicitations of ours were due.
    Due,
    /// Advertisements were due again.
    Again,
    /// Another event.
    Other { event: usize },
}

/// What was decided on a solicitation.
pub(super) type Decided = Result<(), Unanswered>;

/// So many times in a row something may be due at one moment.
const MOST_AT_ONCE: usize = 1000;

/// Plays it, and passes each step to `take`. Returns the state at the end.
pub(super) fn play(case: &Case, mut take: impl FnMut(Step)) -> Proxy {
    let mut now = Instant::now();
    let mut proxy = Proxy::new(case.place(), now);
    proxy.leave_to_kernel(of_the_kernel(), true);
    for (event, it) in case.events.iter().enumerate() {
        let mut until = now;
        match it {
            Event::Packet { link, from, packet } => {
                let read = decode(packet).ok();
                let before = proxy.counts().clone();
                let sent = read.map_or(vec![], |message| proxy.received(*link, *from, &message, now));
                let (before, after) = (before.links.get(link), proxy.counts().links.get(link));
                let decided =
                    difference(&before.cloned().unwrap_or_default(), &after.cloned().unwrap_or_default());
                take(Step { now, why: Why::Packet { event, read, decided }, sent });
            }
            Event::Wait(millis) => until = now + Duration::from_millis(*millis),
            Event::Gone { bridge, mac } => {
                proxy.doubt_those(*bridge, *mac, now);
                take(Step { now, why: Why::Other { event }, sent: vec![] });
            }
            Event::Adopted(target) => {
                proxy.adopt([*target], now);
                take(Step { now, why: Why::Other { event }, sent: vec![] });
            }
        }
        let mut at_once = 0;
        while let Some(due) = proxy.next_due().filter(|due| *due <= until) {
            at_once = if due > now { 0 } else { at_once + 1 };
            assert!(at_once < MOST_AT_ONCE, "something is always due");
            now = due.max(now);
            take(Step { now, why: Why::Due, sent: proxy.ask(now, |_| true) });
            take(Step { now, why: Why::Again, sent: proxy.advertise_renewed(now) });
        }
        now = until;
    }
    proxy
}

fn difference(before: &crate::proxy::LinkCounts, after: &crate::proxy::LinkCounts) -> Option<Decided> {
    if after.answers() > before.answers() {
        return Some(Ok(()));
    }
    let of = |counts: &crate::proxy::LinkCounts, reason| {
        counts.unanswered.get(reason).copied().unwrap_or_default()
    };
    Unanswered::ALL.iter().find(|reason| of(after, reason) > of(before, reason)).map(|reason| Err(*reason))
}

/// A step as a line, and each packet as one; empty if nothing is decided.
pub(super) fn text(case: &Case, step: &Step) -> String {
    let mut text = match &step.why {
        Why::Packet { event, read, decided } => {
            let number = event + 1;
            match (read, decided) {
                (None, _) => format!("{number}: invalid: {}\n", why_invalid(&case.events[*event])),
                (_, Some(Ok(()))) => format!("{number}: answered\n"),
                (_, Some(Err(reason))) => format!("{number}: not answered: {}\n", reason.text()),
                (Some(_), None) => format!("{number}: heard\n"),
            }
        }
        Why::Due | Why::Again if step.sent.is_empty() => String::new(),
        Why::Due => "due\n".to_owned(),
        Why::Again => "again\n".to_owned(),
        Why::Other { event } => format!("{}: {}\n", event + 1, case.events[*event]),
    };
    for sent in &step.sent {
        let _ = writeln!(text, "   sent on {} to {}: {}", sent.link, shown(sent.to), packet(&sent.packet));
    }
    text
}

fn why_invalid(event: &Event) -> String {
    let Event::Packet { packet, .. } = event else { return String::new() };
    decode(packet).err().map_or_else(String::new, |why| format!("{why:?}"))
}

fn packet(octets: &[u8]) -> String {
    let Some(it) = rfc::read(octets) else { return "an invalid packet".to_owned() };
    let what = if it.kind == 135 { "who has" } else { "here is" };
    let flags: String = [(0x80, 'R'), (0x40, 'S'), (0x20, 'O')]
        .iter()
        .filter(|it2| it.flags & it2.0 != 0)
        .map(|it| it.1)
        .collect();
    let mac = it.mac.map(shown).unwrap_or_default();
    format!("{} > {}: {what} {} {mac} {flags}", it.source, it.destination, it.target).trim_end().to_owned()
}
