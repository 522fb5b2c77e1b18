//! Differences of the host or the claim from the settings. Pure.

use std::collections::BTreeSet;

use sextant_proto::Claim;

use super::{
    elsewhere, interfaces,
    roles::{self, Contradiction},
    sysctls::of_interface,
};
use crate::{
    kernel::{Address, Kernel, KernelError, Link, MAIN_TABLE, Rule, RuleAction},
    problems::Finding,
    settings::{HostSettings, Role},
    state::StateError,
};

/// The state of the host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The rules of the routing policy.
    pub rules: Vec<Rule>,
    /// The uplinks and the bridge, as far as they have `disable_ipv6`.
    pub ipv6_off: BTreeSet<String>,
}

impl Facts {
    /// Of this host.
    ///
    /// # Errors
    /// If the kernel cannot be read.
    pub async fn read(kernel: &dyn Kernel, settings: &HostSettings) -> Result<Self, KernelError> {
        let mut ipv6_off = BTreeSet::new();
        for name in settings.uplinks.iter().chain([&settings.bridge]) {
            if kernel.sysctl(&of_interface(name, "disable_ipv6"))?.is_some_and(|value| value != "0") {
                ipv6_off.insert(name.clone());
            }
        }
        let (links, addresses, rules) =
            (kernel.links().await?, kernel.addresses().await?, kernel.rules().await?);
        Ok(Self { links, addresses, rules, ipv6_off })
    }
}

/// The links of this host on which the kernel has no IPv6, of those with these names and roles. If no uplink has it, the host
/// does not work.
pub fn without_ipv6<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>, facts: &Facts) -> Vec<Finding> {
    let named = named.into_iter().filter_map(|(role, name)| {
        let link = facts.links.iter().find(|link| link.name == name)?;
        interfaces::without_ipv6(role, link, facts.ipv6_off.contains(name))
    });
    named.collect()
}

fn uplinks_without_ipv6(settings: &HostSettings, facts: &Facts) -> Vec<Finding> {
    let uplinks = settings.uplinks.iter().map(|name| ("uplink", name.as_str()));
    let mut found = without_ipv6(uplinks, facts);
    let all = found.len() == settings.uplinks.len();
    found.iter_mut().for_each(|finding| finding.unready = all);
    found
}

/// The settings that have no effect, or cannot work, on this host and with these claims.
pub fn of_settings(settings: &HostSettings, claims: &[Claim], facts: &Facts) -> Vec<Finding> {
    let host_len = primary(settings, claims).and_then(|claim| host_len(settings, claim, claims.len()));
    let pools = claims.iter().filter_map(|claim| pool(settings, claim, claims.len()));
    let bridge = claims.iter().filter(|_| settings.role == Role::Host);
    let elsewhere =
        bridge.flat_map(|claim| elsewhere::findings(&settings.bridge, claim, &facts.links, &facts.addresses));
    let mut found: Vec<_> =
        host_len.into_iter().chain(pools).chain(table(settings.table, &facts.rules)).collect();
    found.extend(elsewhere);
    found.extend(uplinks_without_ipv6(settings, facts));
    found.extend(roles::of_host(settings, &facts.links).iter().map(Contradiction::finding));
    found
}

/// The claim that `host-len` is for: that of the first pool which the settings name.
fn primary<'a>(settings: &HostSettings, claims: &'a [Claim]) -> Option<&'a Claim> {
    match &settings.pools[..] {
        [first, _, ..] => claims.iter().find(|claim| claim.pool.name.as_str() == first),
        _ => claims.first(),
    }
}

fn host_len(settings: &HostSettings, claim: &Claim, held: usize) -> Option<Finding> {
    // The node's other claims stay.
    let only = if held > 1 { format!(" --pool {}", claim.pool.name) } else { String::new() };
    let (wanted, len) = (settings.host_len?, claim.prefix.len());
    (wanted != u32::from(len)).then(|| {
        Finding::new(
            "host-len",
            format!("--host-len {wanted} has no effect: this node holds {}, a /{len}", claim.prefix),
            format!(
                "set host-len = {len} in agent.toml (--host-len), or let the node claim again: `sextant node drain {node}`, \
                 stop the agent, `sextant node forget {node}{only}` (once `sextant node list` shows that it is stopped or down), \
                 start it, and create its containers again",
                node = settings.node
            ),
        )
    })
}

/// A held claim in a pool that the settings do not name: it is kept, since containers may have addresses of it.
fn pool(settings: &HostSettings, claim: &Claim, held: usize) -> Option<Finding> {
    let (wanted, pool, node) = (&settings.pools, &claim.pool.name, &settings.node);
    if wanted.is_empty() || wanted.iter().any(|wanted| wanted == pool.as_str()) {
        return None;
    }
    Some(match &wanted[..] {
        [only] if held == 1 => Finding::new(
            "pool",
            format!("--pool {only} has no effect: this node holds {} of pool {pool}", claim.prefix),
            format!(
                "set pool = \"{pool}\" in agent.toml (--pool), or let the node claim again: `sextant node drain {node}`, stop \
                 the agent, `sextant node forget {node}` (once `sextant node list` shows that it is stopped or down), start it, \
                 and create its containers again"
            ),
        ),
        _ => Finding::new(
            "pool",
            format!("--pool does not name pool {pool}, and this node still holds {} of it", claim.prefix),
            format!(
                "name {pool} in agent.toml (pool = [...], --pool) to keep the prefix; or end the claim, which takes the prefix \
                 from its containers: `sextant node forget {node} --pool {pool} --force`"
            ),
        ),
    })
}

/// A table without a rule is never used. A rule for VRFs (l3mdev) has no table, and may use any.
pub fn table(table: u32, rules: &[Rule]) -> Option<Finding> {
    let leads = |rule: &Rule| matches!(rule.action, RuleAction::Table(to) if to == table || to == 0);
    let fix = || {
        match table {
        MAIN_TABLE => "the kernel's own rule for table main was removed; add it again: `ip -6 rule add lookup main pref 32766`, and \
                       find the process that removed it"
            .to_owned(),
        _ => format!(
            "add a rule after the main table's specific routes, e.g. `ip -6 rule add lookup main suppress_prefixlength 0 pref 999` \
             and `ip -6 rule add lookup {table} pref 1000`; or change [routes] table (--routes-table)"
        ),
    }
    };
    (!rules.iter().any(leads)).then(|| {
        let saw = format!("no rule uses routing table {table}, so the kernel ignores the agent's routes");
        Finding::unready("table-without-rule", saw, fix())
    })
}

pub(super) fn of_state(error: &StateError) -> Finding {
    let kept = "it holds the node id, the claim and the record of the agent's changes; don't restart the agent before this is fixed";
    let (saw, fix) = error.parts();
    let fix = if fix.is_empty() { kept.to_owned() } else { format!("{fix}; {kept}") };
    Finding::unready("state-directory", saw, fix)
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;
    use crate::kernel::fake::permanent;

    fn settings() -> HostSettings {
        HostSettings {
            node: "h1".into(),
            role: Role::Host,
            pools: vec![],
            host_len: None,
            state_dir: "/state".into(),
            tls: None,
            controllers: vec![],
            uplinks: vec!["eth0".into()],
            bridge: "docker0".into(),
            table: 254,
            docker: None,
            ndp_source: None,
        }
    }

    fn claim() -> Claim {
        let pool = Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 80).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix: "2001:db8:1::/64".parse().unwrap(), epoch, pool }
    }

    fn rule(table: u32) -> Rule {
        Rule { action: RuleAction::Table(table), ..Rule::default() }
    }

    fn facts() -> Facts {
        let link = |index, name: &str| Link {
            index,
            name: name.into(),
            up: true,
            carrier: true,
            bridge: true,
            mtu: 1500,
            ..Link::default()
        };
        Facts {
            links: vec![link(3, "docker0"), link(4, "br1")],
            addresses: vec![permanent(3, "2001:db8:1::1".parse().unwrap(), 80)],
            rules: vec![rule(255), rule(254)],
            ..Facts::default()
        }
    }

    fn found(settings: &HostSettings, facts: &Facts) -> Vec<(&'static str, String)> {
        let found = of_settings(settings, &[claim()], facts);
        found.into_iter().map(|it| (it.what, it.saw)).collect()
    }

    #[test]
    fn a_host_that_matches_the_settings_has_no_findings() {
        let as_held = HostSettings { pools: vec!["main".into()], host_len: Some(64), ..settings() };
        assert_eq!((found(&settings(), &facts()), found(&as_held, &facts())), (vec![], vec![]));
    }

    #[test]
    fn settings_that_the_claim_contradicts_are_reported_with_both_values() {
        let other = HostSettings { pools: vec!["nosuch".into()], host_len: Some(60), ..settings() };
        let found = found(&other, &facts());
        assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), ["host-len", "pool"]);
        assert!(found[0].1.contains("--host-len 60") && found[0].1.contains("2001:db8:1::/64"), "{found:?}");
        assert!(found[1].1.contains("--pool nosuch") && found[1].1.contains("pool main"), "{found:?}");
        assert!(of_settings(&other, &[], &facts()).is_empty(), "there is no claim yet");
    }

    #[test]
    fn the_length_is_that_of_the_primary_pool_and_the_fix_ends_no_other_claim() {
        let ula = Pool::new("ula".parse().unwrap(), "fd00::/32".parse().unwrap(), 64, 80).unwrap();
        let claims = [claim(), Claim { prefix: "fd00:0:1::/64".parse().unwrap(), pool: ula, ..claim() }];
        let of = |pools: &[&str]| {
            let pools = pools.iter().map(|&pool| pool.to_owned()).collect();
            let settings = HostSettings { pools, host_len: Some(60), ..settings() };
            let found = of_settings(&settings, &claims, &facts());
            found.into_iter().find(|it| it.what == "host-len").map(|it| it.fix)
        };
        assert!(of(&["main", "ula"]).unwrap().contains("`sextant node forget h1 --pool main`"));
        assert!(of(&["ula", "main"]).unwrap().contains("`sextant node forget h1 --pool ula`"));
        assert_eq!(of(&["lab", "main", "ula"]), None, "the primary pool has no claim yet");
    }

    #[test]
    fn a_claim_in_a_pool_that_is_no_longer_named_is_kept_and_reported() {
        let ula = Claim { pool: Pool { name: "ula".parse().unwrap(), ..claim().pool }, ..claim() };
        let found = |pools: &[&str]| {
            let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
            let found = of_settings(&HostSettings { pools, ..settings() }, &[claim(), ula.clone()], &facts());
            found.into_iter().map(|it| (it.saw, it.fix)).collect::<Vec<_>>()
        };
        assert_eq!((found(&["main", "ula"]), found(&[])), (vec![], vec![]));
        let (saw, fix) = &found(&["main"])[0];
        assert!(saw.contains("--pool does not name pool ula"), "{saw}");
        assert!(fix.contains("sextant node forget h1 --pool ula"), "{fix}");
    }

    #[test]
    fn a_table_needs_a_rule() {
        let other = HostSettings { table: 100, ..settings() };
        assert_eq!(found(&other, &facts())[0].0, "table-without-rule");
        for to in [100, 0] {
            let facts = Facts { rules: vec![Rule { conditional: true, ..rule(to) }], ..facts() };
            assert!(found(&other, &facts).is_empty());
        }
    }
}
