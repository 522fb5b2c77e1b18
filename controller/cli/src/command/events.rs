//! What was done: those events that are there, and new ones as they come.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::{Incarnation, Revision};

use crate::{
    answer::Event,
    args::Output,
    failure::Failure,
    json,
    link::{Link, Wanted},
    show, text,
};

/// How long to wait before a controller is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// How an event's time compares with that of the event shown before it. The order is the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    GoesOn,
    /// A wall clock is or was wrong.
    GoesBack,
}

/// The events that were shown so far.
#[derive(Debug, Default)]
struct Shown {
    last_unix_ms: Option<u64>,
}

impl Shown {
    fn next(&mut self, event: &Event) -> Time {
        let before = self.last_unix_ms.replace(event.unix_ms);
        if before.is_some_and(|before| event.unix_ms < before) { Time::GoesBack } else { Time::GoesOn }
    }
}

/// `sextant events`.
pub(crate) async fn events(link: &mut Link, output: Output, wanted: &Wanted) -> Result<(), Failure> {
    if !wanted.follow {
        let mut stream = link.events(wanted, None).await?;
        let mut all: Vec<Event> = Vec::new();
        while let Some(event) = stream.next().await? {
            all.push(event);
        }
        let mut shown = Shown::default();
        let shown = all.iter().map(|event| (event, shown.next(event)));
        let text = match output {
            Output::Table => shown.map(|(event, time)| line(event, time)).collect(),
            Output::Json => {
                format!("{:#}\n", shown.map(|(event, time)| json(event, time)).collect::<Value>())
            }
        };
        return show::write(text.as_bytes());
    }
    let (mut last, mut shown) = (None, Shown::default());
    let mut in_trouble = false;
    loop {
        let ended = follow(link, output, wanted, &mut last, &mut shown).await;
        // The first connection must succeed; later ones are tried again, as a controller may restart.
        let (Err(Failure::Unavailable(why)), Some(_)) = (&ended, last) else { return ended };
        if !std::mem::replace(&mut in_trouble, true) {
            eprintln!("sextant: {}; trying again", text::one_line(why));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Shows events until the stream ends; `last` is the last one that was shown.
async fn follow(
    link: &mut Link,
    output: Output,
    wanted: &Wanted,
    last: &mut Option<(Incarnation, Revision)>,
    shown: &mut Shown,
) -> Result<(), Failure> {
    // Once connected, only what is new is asked for.
    let rest = Wanted { last: wanted.last.filter(|_| last.is_none()), node: wanted.node.clone(), ..*wanted };
    let mut stream = link.events(&rest, *last).await?;
    while let Some(event) = stream.next::<Event>().await? {
        *last = Some((event.incarnation, event.revision));
        let time = shown.next(&event);
        let text = match output {
            Output::Table => line(&event, time),
            Output::Json => format!("{}\n", json(&event, time)),
        };
        show::write(text.as_bytes())?;
    }
    Err(Failure::Unavailable("the controller has ended the stream".into()))
}

fn line(event: &Event, shown: Time) -> String {
    text::event(event, shown == Time::GoesBack)
}

fn json(event: &Event, shown: Time) -> Value {
    json::value(json::Event::new(event, shown == Time::GoesBack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;
    use serde_json::json;

    #[test]
    fn a_time_before_that_of_the_event_shown_before_is_marked() {
        let mut shown = Shown::default();
        let marked: Vec<bool> = [5_000, 5_000, 4_999, 4_999, 6_000]
            .map(|unix_ms| Event { unix_ms, ..sample::event() })
            .iter()
            .map(|event| {
                let time = shown.next(event);
                let in_table = line(event, time)
                    .ends_with("[earlier than the line above: a controller's clock was wrong]\n");
                assert_eq!(json(event, time)["time_goes_back"], in_table);
                in_table
            })
            .collect();
        assert_eq!(marked, [false, false, true, false, false]);
    }

    #[test]
    fn an_event_is_json() {
        let expected = json!({
            "revision": 12,
            "incarnation": "000000000000000000000000000000ff",
            "unix_ms": 1_800_000_000_000_u64,
            "what": "claimed",
            "node": "host1",
            "prefix": "2001:db8:1::/64",
            "pool": "main",
            "by": "anybody at ::1",
            "detail": "a\nb",
            "time_goes_back": false,
        });
        assert_eq!(format!("{:#}", json(&sample::event(), Time::GoesOn)), format!("{expected:#}"));
    }
}
