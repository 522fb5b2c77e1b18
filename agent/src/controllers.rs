//! Where controllers are reached: by the settings, and as controllers have told.
//!
//! Told addresses are kept in the state directory, so that all controllers of the settings may be replaced, one by one, while no
//! host is touched. They give no one any right: over TLS a controller is trusted by its certificate, wherever it is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_identity::ControllerUrl;

use crate::{
    settings::Settings,
    state::{StateDir, ToldControllers},
};

/// So many told addresses are kept. One of a dead controller costs the time-out of a connection, now and then.
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
    tls: bool,
    insecure: bool,
}

impl Controllers {
    /// Those of the settings, and those that were told to this node before. What cannot be read is told again.
    pub fn new(settings: &Settings, state: Arc<StateDir>) -> Self {
        let told = state.told_controllers().unwrap_or_else(|error| {
            tracing::warn!(%error, "addresses of controllers cannot be read; those of the settings are used");
            ToldControllers::default()
        });
        let mut known = Known {
            configured: settings.controllers.clone(),
            present: Vec::new(),
            earlier: Vec::new(),
            tls: settings.tls.is_some(),
            insecure: settings.insecure,
        };
        (known.present, known.earlier) = (known.usable(&told.present), known.usable(&told.earlier));
        Self { known: Arc::new(Mutex::new(known)), state }
    }

    /// In the order in which they are tried.
    pub fn in_order(&self) -> Vec<ControllerUrl> {
        self.known().in_order()
    }

    /// A controller has told where all are reached.
    pub(crate) fn told(&self, urls: &[String]) {
        let mut known = self.known();
        if !known.take(urls) {
            return;
        }
        tracing::info!(controllers = listed(&known.present).join(", "), "addresses of controllers changed");
        let told = ToldControllers { present: listed(&known.present), earlier: listed(&known.earlier) };
        if let Err(error) = self.state.keep_told_controllers(&told) {
            tracing::warn!(%error, "addresses of controllers cannot be stored; a restart starts with those of the settings");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No panic leaves it inconsistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Those that are there before those that may be gone; of each kind, those of the settings first.
    fn in_order(&self) -> Vec<ControllerUrl> {
        let is_present = |it: &&ControllerUrl| self.present.contains(it);
        let configured = self.configured.iter();
        let there = configured.clone().filter(is_present).chain(&self.present);
        let maybe_gone = configured.chain(&self.earlier);
        let mut seen = BTreeSet::new();
        there.chain(maybe_gone).filter(|it| seen.insert(it.to_string())).cloned().collect()
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
        Known { configured, present: vec![], earlier: vec![], tls: true, insecure: false }
    }

    fn order(known: &Known) -> String {
        let name = |it: ControllerUrl| it.host().split('.').next().unwrap_or_default().to_owned();
        known.in_order().into_iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn controllers_that_are_there_are_tried_before_those_that_may_be_gone() {
        let mut known = known(&["a", "b"]);
        assert_eq!(order(&known), "a b");
        assert!(known.take(&urls(&["b", "c"])));
        assert_eq!(order(&known), "b c a");
        assert!(!known.take(&urls(&["b", "c"])), "as before");
        assert!(known.take(&urls(&["d"])));
        assert_eq!(order(&known), "d a b c", "one that is away is tried too");
        assert!(!known.take(&[]), "nothing was told");
        assert!(known.take(&urls(&["c"])));
        assert_eq!(order(&known), "c a b d");
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
