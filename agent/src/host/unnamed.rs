//! Settings that do not name the containers' bridge, on a host that was set up with one. Pure.

use crate::{problems::Finding, settings::BridgeSource, state::Ledger};

/// The bridge that the host was last set up with, and what is missing, if the settings name no bridge and their default is another
/// one. An agent with other flags than this command set the host up: its bridge must not be taken from it.
pub fn bridge_of(ledger: &Ledger, source: &BridgeSource, default: &str) -> Option<(String, Finding)> {
    let stood = ledger.stood.as_ref().filter(|stood| !source.named && *stood != default)?;
    let config = source.config.display();
    let finding = Finding::new(
        "bridge-not-named",
        format!(
            "this host was last set up with bridge {stood}, but neither [bridge] interface nor [docker] mode is set in {config} or by a \
             flag"
        ),
        format!(
            "write the agent's settings into {config}, where its other commands read them, or give this command the agent's flags; start \
             the agent first if its containers' bridge is to be {default} from now on"
        ),
    );
    Some((stood.clone(), finding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_that_stands_counts_where_no_setting_names_one() {
        let source = |named| BridgeSource { named, config: "/etc/sextant/agent.toml".into() };
        let ledger = |stood: Option<&str>| Ledger { stood: stood.map(str::to_owned), ..Ledger::default() };
        let (stood, finding) = bridge_of(&ledger(Some("sextant0")), &source(false), "docker0").unwrap();
        assert_eq!(stood, "sextant0");
        assert!(finding.saw.contains("bridge sextant0") && finding.fix.contains("/etc/sextant/agent.toml"));
        for (stood, named) in [(Some("sextant0"), true), (Some("docker0"), false), (None, false)] {
            assert_eq!(bridge_of(&ledger(stood), &source(named), "docker0"), None, "{stood:?} {named}");
        }
    }
}
