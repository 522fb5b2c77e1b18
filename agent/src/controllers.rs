//! Where controllers are reached: by the settings, and as controllers announce it.
//!
//! Announced addresses are kept in the state directory, so that all controllers of the settings may be replaced, one by one, while no
//! host is touched. They give no one any right: over TLS a controller is trusted by its certificate, wherever it is. The settings
//! come first: what was announced is forgotten when they name other controllers, as those of another cluster.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_identity::ControllerUrl;

use crate::{
    settings::Settings,
    state::{AnnouncedControllers, StateDir},
};

/// So many announced addresses are kept. One of a dead controller costs the time-out of a connection, now and then.
const MOST: usize = 16;

/// The controllers of this agent.
#[derive(Debug, Clone)]
pub struct Controllers {
    known: Arc<Mutex<Known>>,
    state: Arc<StateDir>,
}

/// Which controllers there are. Pure.
#[derive(Debug)]
struct Known {
    configured: Vec<ControllerUrl>,
    /// By the last message.
    present: Vec<ControllerUrl>,
    /// By earlier ones, the last one first.
    earlier: Vec<ControllerUrl>,
    /// Those that could not be reached at the last attempt.
    unreached: BTreeSet<String>,
    tls: bool,
    insecure: bool,
}

impl Controllers {
    /// Those of the settings, and those that were announced before. What cannot be read is announced again.
    pub fn new(settings: &Settings, state: Arc<StateDir>) -> Self {
        let announced = state.announced_controllers().unwrap_or_else(|error| {
            tracing::warn!(%error, "addresses of controllers cannot be read; those of the settings are used");
            AnnouncedControllers::default()
        });
        let mut known = Known {
            configured: settings.controllers.clone(),
            present: Vec::new(),
            earlier: Vec::new(),
            unreached: BTreeSet::new(),
            tls: settings.tls.is_some(),
            insecure: settings.insecure,
        };
        known.remember(&announced);
        Self { known: Arc::new(Mutex::new(known)), state }
    }

    /// In the order in which they are tried.
    pub fn in_order(&self) -> Vec<ControllerUrl> {
        self.known().in_order()
    }

    /// A controller announces where all are reached.
    pub(crate) fn announced(&self, urls: &[String]) {
        let mut known = self.known();
        if !known.take(urls) {
            return;
        }
        tracing::info!(controllers = listed(&known.present).join(", "), "addresses of controllers changed");
        if let Err(error) = self.state.keep_announced_controllers(&known.stored()) {
            tracing::warn!(%error, "addresses of controllers cannot be stored; a restart starts with those of the settings");
        }
    }

    /// Whether this one could be connected to.
    pub(crate) fn tried(&self, url: &ControllerUrl, reached: bool) {
        let unreached = &mut self.known().unreached;
        if reached {
            unreached.remove(&url.to_string());
        } else {
            unreached.insert(url.to_string());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No panic leaves it inconsistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Those of the settings first; those that could not be reached after the others.
    fn in_order(&self) -> Vec<ControllerUrl> {
        let all = self.configured.iter().chain(&self.present).chain(&self.earlier);
        let mut seen = BTreeSet::new();
        let mut all: Vec<_> = all.filter(|it| seen.insert(it.to_string())).cloned().collect();
        all.sort_by_key(|it| self.unreached.contains(&it.to_string()));
        all
    }

    /// What was announced while the settings named the same controllers.
    fn remember(&mut self, announced: &AnnouncedControllers) {
        if announced.configured == listed(&self.configured) {
            (self.present, self.earlier) = (self.usable(&announced.present), self.usable(&announced.earlier));
        }
    }

    fn stored(&self) -> AnnouncedControllers {
        AnnouncedControllers {
            configured: listed(&self.configured),
            present: listed(&self.present),
            earlier: listed(&self.earlier),
        }
    }

    /// Returns whether anything is new.
    fn take(&mut self, urls: &[String]) -> bool {
        let now = self.usable(urls);
        if now.is_empty() || now == self.present {
            return false;
        }
        let before = std::mem::replace(&mut self.present, now);
        self.earlier.splice(0..0, before);
        self.earlier.retain(|it| !self.present.contains(it));
        self.earlier.truncate(MOST - self.present.len());
        let there: BTreeSet<_> = listed(&self.present).into_iter().collect();
        self.unreached.retain(|it| !there.contains(it));
        true
    }

    /// The addresses that these settings permit.
    fn usable(&self, urls: &[String]) -> Vec<ControllerUrl> {
        let usable = |url: &String| {
            let url: ControllerUrl = url.parse().ok()?;
            url.check(self.tls, self.insecure).ok().map(|()| url)
        };
        urls.iter().filter_map(usable).take(MOST).collect()
    }
}

fn listed(urls: &[ControllerUrl]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("https://{name}.example:7300")).collect()
    }

    fn known(names: &[&str]) -> Known {
        let configured = urls(names).iter().map(|it| it.parse().unwrap()).collect();
        let unreached = BTreeSet::new();
        Known { configured, present: vec![], earlier: vec![], unreached, tls: true, insecure: false }
    }

    fn order(known: &Known) -> String {
        let name = |it: ControllerUrl| it.host().split('.').next().unwrap_or_default().to_owned();
        known.in_order().into_iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn those_of_the_settings_are_first_and_those_that_are_not_reached_last() {
        let mut known = known(&["a", "b"]);
        assert_eq!(order(&known), "a b");
        assert!(known.take(&urls(&["b", "c"])));
        assert_eq!(order(&known), "a b c");
        known.unreached.extend(urls(&["a"]));
        assert_eq!(order(&known), "b c a");
        assert!(!known.take(&urls(&["b", "c"])), "as before");
        assert_eq!(order(&known), "b c a");
        assert!(known.take(&urls(&["d"])));
        assert_eq!(order(&known), "b d c a", "one that is away is tried too");
        assert!(!known.take(&[]), "nothing was announced");
        assert!(known.take(&urls(&["a", "c"])));
        assert_eq!(order(&known), "a b c d", "it is there again");
    }

    #[test]
    fn what_was_announced_is_forgotten_when_the_settings_name_others() {
        let mut before = known(&["a"]);
        assert!(before.take(&urls(&["b"])) && before.take(&urls(&["c"])));
        let (mut same, mut other) = (known(&["a"]), known(&["x"]));
        same.remember(&before.stored());
        other.remember(&before.stored());
        assert_eq!((order(&same), order(&other)), ("a c b".to_owned(), "x".to_owned()));
    }

    #[test]
    fn what_the_settings_do_not_permit_is_not_used_and_the_list_is_bounded() {
        let mut known = known(&["a"]);
        let plain = "http://[2001:db8::c:2]:7300".to_owned();
        assert!(!known.take(&[plain.clone(), "https://".into(), "x".repeat(9000)]));
        known.tls = false;
        assert!(!known.take(std::slice::from_ref(&plain)), "plain text to other hosts");
        known.insecure = true;
        assert!(known.take(&[plain]));
        known.tls = true;
        for round in 0..40 {
            let names: Vec<_> = (0..10).map(|n| format!("c{round}-{n}")).collect();
            known.take(&urls(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        assert_eq!(known.in_order().len(), 1 + MOST);
    }
}
