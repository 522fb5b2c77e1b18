//! `sextant events`: the changes in the store, and new ones as they happen.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::{Incarnation, Revision};
use sextant_streams::write_stderr;

use crate::{
    answer::Event,
    failure::Failure,
    global::Output,
    json,
    link::{EventFilter, Link},
    show, text,
};

/// How long to wait before the next attempt.
const RETRY: Duration = Duration::from_millis(500);

/// The time of an event compared with that of the previous one. Events have the order of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Later,
    /// A wall clock is or was wrong.
    Earlier,
}

/// The events that were shown so far.
#[derive(Debug, Default)]
struct Shown {
    last_unix_ms: Option<u64>,
}

impl Shown {
    fn next(&mut self, event: &Event) -> Time {
        let before = self.last_unix_ms.replace(event.unix_ms);
        if before.is_some_and(|before| event.unix_ms < before) { Time::Earlier } else { Time::Later }
    }
}

/// `sextant events`.
pub(crate) async fn events(link: &mut Link, output: Output, filter: &EventFilter) -> Result<(), Failure> {
    if !filter.follow {
        let mut stream = link.events(filter, None).await?;
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
    tokio::select! {
        ended = follow_on(link, output, filter) => ended,
        () = show::reader_gone() => Ok(()),
    }
}

/// Shows events until a failure, over restarts of the controller.
async fn follow_on(link: &mut Link, output: Output, filter: &EventFilter) -> Result<(), Failure> {
    let (mut last, mut shown) = (None, Shown::default());
    let mut interrupted = false;
    loop {
        let ended = follow(link, output, filter, &mut last, &mut shown).await;
        // The first connection must succeed; later ones are retried, because a controller may restart.
        let (Err(Failure::Unavailable(why)), Some(_)) = (&ended, last) else { return ended };
        if !std::mem::replace(&mut interrupted, true) {
            write_stderr(&format!("sextant: {}; trying again", text::one_line(why)));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Shows events until the stream ends; `last` is the last one that was shown.
async fn follow(
    link: &mut Link,
    output: Output,
    filter: &EventFilter,
    last: &mut Option<(Incarnation, Revision)>,
    shown: &mut Shown,
) -> Result<(), Failure> {
    // After a reconnect, only new events are requested.
    let rest =
        EventFilter { last: filter.last.filter(|_| last.is_none()), node: filter.node.clone(), ..*filter };
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
    Err(Failure::Unavailable("the controller ended the stream".into()))
}

fn line(event: &Event, shown: Time) -> String {
    text::event(event, shown == Time::Earlier)
}

fn json(event: &Event, shown: Time) -> Value {
    json::value(json::Event::new(event, shown == Time::Earlier))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;
    use serde_json::json;

    #[test]
    fn a_time_before_that_of_the_previous_event_is_marked() {
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
        assert_eq!(format!("{:#}", json(&sample::event(), Time::Later)), format!("{expected:#}"));
    }
}
