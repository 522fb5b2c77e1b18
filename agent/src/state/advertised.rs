//! The prefixes that were advertised on the containers' bridge, as they are stored.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sextant_advertise::former::Remembered;
use sextant_proto::{
    Prefix,
    convert::{MessageError, parse},
};

use super::{StateDir, StateError, malformed, read};

const ADVERTISED: &str = "advertised.json";

/// Former prefixes have the time (Unix, in milliseconds) after which no host has an address of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    advertised: Vec<String>,
    former: BTreeMap<String, u64>,
}

impl StateDir {
    /// What was advertised, at this time.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn advertised(&self, now_unix_ms: u64) -> Result<Remembered, StateError> {
        let path = self.path.join(ADVERTISED);
        let stored: Stored = read(&path)?.unwrap_or_default();
        stored.remembered(now_unix_ms).map_err(|error| malformed(&path, &error))
    }

    /// Stores that.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_advertised(&self, remembered: &Remembered, now_unix_ms: u64) -> Result<(), StateError> {
        let until = |rest: Duration| now_unix_ms + u64::try_from(rest.as_millis()).unwrap_or(u64::MAX / 2);
        let former = remembered.former.iter().map(|(prefix, rest)| (prefix.to_string(), until(*rest)));
        let advertised = remembered.advertised.iter().map(ToString::to_string).collect();
        let stored = self.json(ADVERTISED, &Stored { advertised, former: former.collect() })?;
        self.keep(ADVERTISED, Some(stored), false)
    }
}

impl Stored {
    fn remembered(self, now: u64) -> Result<Remembered, MessageError> {
        let rest = |until: u64| Duration::from_millis(until.saturating_sub(now));
        let former = self.former.iter().map(|(prefix, until)| {
            let prefix: Prefix = parse("former", prefix)?;
            Ok((prefix, rest(*until)))
        });
        let advertised = self.advertised.iter().map(|prefix| parse("advertised", prefix));
        Ok(Remembered {
            advertised: advertised.collect::<Result<_, MessageError>>()?,
            former: former.collect::<Result<_, MessageError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_advertised_is_stored_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.advertised(5000).unwrap(), Remembered::default());
        let former = |secs| vec![("2001:db8:2::/64".parse().unwrap(), Duration::from_secs(secs))];
        let now = Remembered { advertised: vec!["2001:db8:1::/64".parse().unwrap()], former: former(7200) };
        state.keep_advertised(&now, 5000).unwrap();
        assert_eq!(state.advertised(65_000).unwrap(), Remembered { former: former(7140), ..now.clone() });
        assert_eq!(state.advertised(u64::MAX).unwrap(), Remembered { former: former(0), ..now });
        std::fs::write(dir.path().join(ADVERTISED), "{\"advertised\": [\"x\"], \"former\": {}}").unwrap();
        assert!(state.advertised(0).unwrap_err().to_string().contains("advertised"));
    }
}
