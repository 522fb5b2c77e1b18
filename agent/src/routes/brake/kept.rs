//! To and from the form that the state directory keeps over a restart of the agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sextant_proto::{Incarnation, Prefix, Revision, brake::WINDOW};
use tokio::time::Instant;

use super::{Brake, Departure};
use crate::state::{KeptBrake, KeptDeparture};

impl Brake {
    /// What to keep of it, where `now` is `clock`.
    pub fn keep(&self, now: Instant, clock: SystemTime) -> KeptBrake {
        let departed = |(prefix, departure): (&Prefix, &Departure)| KeptDeparture {
            prefix: prefix.to_string(),
            unix_ms: unix_ms(clock - now.saturating_duration_since(departure.at)),
            counted: departure.counted,
        };
        KeptBrake {
            incarnation: self.incarnation.map(|incarnation| incarnation.to_string()),
            resumed: self.resumed.0,
            confirmed: self.confirmed,
            held: self.held.iter().map(ToString::to_string).collect(),
            departed: self.departed.iter().map(departed).collect(),
        }
    }

    /// As it was kept. A departure of the future, by a clock that was set since, counts from now; one whose age is unknown
    /// since the clock does not reach so far back has ended.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn restore(kept: &KeptBrake, now: Instant, clock: SystemTime) -> Result<Self, String> {
        let mut brake = Self {
            incarnation: kept.incarnation.as_deref().map(incarnation).transpose()?,
            resumed: Revision(kept.resumed),
            confirmed: kept.confirmed,
            ..Self::default()
        };
        for held in &kept.held {
            brake.held.insert(prefix(held)?);
        }
        for KeptDeparture { prefix: text, unix_ms: then, counted } in &kept.departed {
            let age = Duration::from_millis(unix_ms(clock).saturating_sub(*then));
            let at = (age < WINDOW).then(|| now.checked_sub(age).unwrap_or(now));
            if let Some(at) = at {
                brake.departed.insert(prefix(text)?, Departure { at, counted: *counted });
            }
        }
        Ok(brake)
    }
}

fn prefix(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|error| format!("\"{text}\": {error}"))
}

fn incarnation(text: &str) -> Result<Incarnation, String> {
    text.parse().map_err(|error| format!("\"{text}\": {error}"))
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
