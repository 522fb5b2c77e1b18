//! Events for people.

use std::time::{Duration, UNIX_EPOCH};

use super::one_line;
use crate::answer::Event;

/// An event as a line: `2026-11-21T10:00:00Z  rev 12  node h1 claimed, 2001:db8:1::/64, pool main (by …)`.
pub(crate) fn line(event: &Event, time_goes_back: bool) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(event.unix_ms));
    let node = event.node.as_ref().map(|node| format!("{node} ")).unwrap_or_default();
    let mut rest = vec![format!("{node}{}", event.what)];
    rest.extend(event.prefix.map(|prefix| prefix.to_string()));
    rest.extend(event.pool.as_ref().map(|pool| format!("pool {pool}")));
    rest.extend(Some(event.detail.clone()).filter(|detail| !detail.is_empty()));
    let mark =
        if time_goes_back { "  [earlier than the line above: a controller's clock was wrong]" } else { "" };
    let text = format!("{time}  rev {:<6}  {}  (by {}){mark}", event.revision.0, rest.join(", "), event.by);
    format!("{}\n", one_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn an_event_is_a_line() {
        assert_eq!(
            line(&sample::event(), false),
            "2027-01-15T08:00:00Z  rev 12      host1 claimed, 2001:db8:1::/64, pool main, a b  (by anybody at ::1)\n"
        );
        let bare = Event { node: None, prefix: None, pool: None, detail: String::new(), ..sample::event() };
        assert_eq!(line(&bare, false), "2027-01-15T08:00:00Z  rev 12      claimed  (by anybody at ::1)\n");
    }
}
