//! To and from the form that the state directory keeps over a restart of the agent.

use std::time::Duration;

use sextant_proto::{Incarnation, Prefix, Revision, brake::WINDOW};
use tokio::time::Instant;

use super::{Brake, Departure};
use crate::state::{KeptBrake, KeptDeparture, Uptime};

impl Brake {
    /// What to keep of it, where `now` is `uptime`.
    pub fn keep(&self, now: Instant, uptime: Uptime) -> KeptBrake {
        let departed = |(prefix, departure): (&Prefix, &Departure)| KeptDeparture {
            prefix: prefix.to_string(),
            age_ms: millis(now.saturating_duration_since(departure.at)),
            counted: departure.counted,
        };
        KeptBrake {
            incarnation: self.incarnation.map(|incarnation| incarnation.to_string()),
            resumed: self.resumed.0,
            confirmed: self.confirmed,
            held: self.held.iter().map(ToString::to_string).collect(),
            departed: self.departed.iter().map(departed).collect(),
            kept_at: uptime,
        }
    }

    /// As it was kept. No wall clock decides; of the time between two boots of the host, nothing is known, and nothing counts.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn restore(kept: &KeptBrake, now: Instant, uptime: &Uptime) -> Result<Self, String> {
        let mut brake = Self {
            incarnation: kept.incarnation.as_deref().map(incarnation).transpose()?,
            resumed: Revision(kept.resumed),
            confirmed: kept.confirmed,
            ..Self::default()
        };
        for held in &kept.held {
            brake.held.insert(prefix(held)?);
        }
        for KeptDeparture { prefix: text, age_ms, counted } in &kept.departed {
            let age = Duration::from_millis(*age_ms).saturating_add(uptime.since(&kept.kept_at));
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
