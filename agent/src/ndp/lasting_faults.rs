//! What others do to the answers, as far as it lasts: most is restored at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use sextant_proto::Prefix;
use tokio::time::Instant;

use super::reach::Reach;
use crate::{
    kernel::{Kernel, KernelError},
    ndp_faults::{
        checks::{self, WrongSysctl},
        processes::{self, OtherProxy},
    },
    problems::Finding,
};

/// How often it is looked which other proxies run on this host.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// What is wrong for so long is not restored by this process, or another one undoes that again and again.
const LASTS: Duration = Duration::from_secs(4);

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Faults {
    wrong_sysctls: Lasting<WrongSysctl>,
    missing: Lasting<(Ipv6Addr, String)>,
    other_proxies: Vec<OtherProxy>,
    looked_around: Option<Instant>,
    /// What the missing entries were last looked for in.
    compared: Option<Compared>,
}

/// The state of what is compared to find missing entries: to compare thousands of addresses again is of no use before it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    /// The revision of the addresses in use.
    pub(super) alive: u64,
    /// The revision of the entries.
    pub(super) entries: u64,
    /// Where which prefixes are answered for.
    pub(super) reach: Reach,
    /// The uplinks.
    pub(super) uplinks: BTreeMap<u32, String>,
}

impl Faults {
    /// Looks at the settings of these uplinks, at the entries that are `missing`, and now and then at other processes.
    pub(super) fn look(
        &mut self,
        kernel: &dyn Kernel,
        compared: Compared,
        missing: impl FnOnce(&Compared) -> BTreeSet<(Ipv6Addr, String)>,
        now: Instant,
    ) -> Result<(), KernelError> {
        if self.looked_around.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_AROUND) {
            self.looked_around = Some(now);
            self.other_proxies = processes::other_proxies();
        }
        let names: Vec<_> = compared.uplinks.values().cloned().collect();
        let wrong = if names.is_empty() { vec![] } else { checks::wrong_sysctls(kernel, &names)? };
        self.wrong_sysctls.follow(wrong, now);
        if self.compared.as_ref() != Some(&compared) {
            self.missing.follow(missing(&compared), now);
            self.compared = Some(compared);
        }
        Ok(())
    }

    /// The findings; `prefixes` are those of this host.
    pub(super) fn findings(&self, prefixes: &[Prefix], now: Instant) -> Vec<Finding> {
        let sysctls: Vec<_> = self.wrong_sysctls.over(LASTS, now).into_iter().collect();
        let mut found = checks::of_sysctls(&sysctls);
        found.extend(checks::of_missing(&self.missing.over(LASTS, now)));
        found.extend(checks::other_proxies(&self.other_proxies, prefixes));
        found
    }
}

/// What is there for some time.
#[derive(Debug)]
struct Lasting<T> {
    first: BTreeMap<T, Instant>,
}

impl<T> Default for Lasting<T> {
    fn default() -> Self {
        Self { first: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Lasting<T> {
    /// These are there now.
    fn follow(&mut self, present: impl IntoIterator<Item = T>, now: Instant) {
        let before = std::mem::take(&mut self.first);
        let since = |it: &T| before.get(it).copied().unwrap_or(now);
        self.first = present.into_iter().map(|it| (it.clone(), since(&it))).collect();
    }

    /// Those that are there for so long.
    fn over(&self, time: Duration, now: Instant) -> BTreeSet<T> {
        let last = self.first.iter().filter(|(_, first)| now.saturating_duration_since(**first) >= time);
        last.map(|(it, _)| it.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_is_reported() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut lasting = Lasting::default();
        lasting.follow(["a", "b"], now);
        lasting.follow(["a", "c"], now + second);
        assert_eq!(lasting.over(second, now + second), ["a"].into());
        lasting.follow([], now + second);
        lasting.follow(["a"], now + second * 2);
        assert_eq!(lasting.over(second, now + second * 2), [].into(), "it was gone meanwhile");
    }
}
