//! Where `daemon.json`, the engine and its bridge disagree with the claim. Pure.

use std::path::Path;

use sextant_docker_setup::{
    json::Document,
    plan::{Engine, FIXED_CIDR, Prefixes, Refusal, keys, stale},
};
use sextant_proto::Prefix;

use crate::problems::Finding;

/// The command that sets a host up.
const SETUP: &str = "run `sextant-agent docker setup` as root";

/// What `daemon.json` says.
#[derive(Debug, Clone, PartialEq)]
pub enum Configured {
    /// These keys.
    As(Document),
    /// It is not usable, and why.
    Unusable(String),
    /// It cannot be read by the agent.
    Unknown,
}

/// The findings, the cause before its consequences, which are left out.
pub fn findings(
    path: &Path,
    configured: &Configured,
    prefixes: &Prefixes,
    engine: &Engine,
    pools: bool,
) -> Vec<Finding> {
    let none = Document::default();
    let document = match configured {
        Configured::As(document) => document,
        _ => &none,
    };
    let wanted = prefixes.container;
    let is_right = engine.network == Some(wanted);
    let of_file = match configured {
        Configured::As(document) => of_file(path, document, prefixes, engine, pools),
        Configured::Unusable(error) => {
            let saw = format!("{}: {error}", path.display());
            Some(Finding::new("docker-daemon-json", saw, format!("correct the file, then {SETUP}")))
        }
        Configured::Unknown => None,
    };
    let mut found = Vec::new();
    if let Some(of_file) = of_file {
        found.push(Finding { unready: !is_right, ..of_file });
    } else if engine.answers && !is_right {
        let has = engine.network.map_or_else(|| "no prefix".to_owned(), |network| network.to_string());
        let used = match &engine.containers[..] {
            [] => String::new(),
            containers => format!("; containers with addresses of it: {}", containers.join(", ")),
        };
        let saw = format!("Docker still gives {} {has}, not this host's {wanted}{used}", engine.bridge);
        let fix = format!(
            "restart Docker (`systemctl restart docker`), then {SETUP}: it removes what Docker leaves"
        );
        found.push(Finding::unready("docker-restart", saw, fix));
    } else {
        let stale = stale(prefixes, engine, document);
        let addresses = stale.addresses.iter().filter(|(addr, len)| {
            !Prefix::containing(*addr, *len).is_some_and(|prefix| is_anothers(prefixes, prefix))
        });
        let addresses = addresses.map(|(addr, len)| format!("address {addr}/{len}"));
        let routes = stale.routes.iter().filter(|route| !is_anothers(prefixes, **route));
        let routes = routes.map(|route| format!("route {route}"));
        let all: Vec<_> = addresses.chain(routes).collect();
        if !all.is_empty() {
            let saw = format!(
                "{} still has what Docker left of an earlier prefix: {}",
                engine.bridge,
                all.join(", ")
            );
            found.push(Finding::new("docker-stale", saw, format!("{SETUP}: it removes them")));
        }
    }
    found
}

/// Whether a prefix may be another node's: what is left of it on any bridge, [`containers`](crate::containers) reports.
fn is_anothers(prefixes: &Prefixes, prefix: Prefix) -> bool {
    prefixes.pools.iter().any(|pool| pool.covers(prefix))
        && !prefixes.hosts().any(|host| host.overlaps(prefix))
}

/// Where the file disagrees with the claim.
fn of_file(
    path: &Path,
    document: &Document,
    prefixes: &Prefixes,
    engine: &Engine,
    pools: bool,
) -> Option<Finding> {
    let kind = "docker-daemon-json";
    let keys = match keys(prefixes, engine, document, pools) {
        // The version is known once the engine answers.
        Err(Refusal::NoVersion) => return None,
        Err(refusal) => return Some(Finding::new(kind, refusal.to_string(), format!("after that, {SETUP}"))),
        Ok(keys) => keys,
    };
    let differs = keys.iter().find(|(key, value)| document.value(key) != Some(value))?;
    let (path, wanted) = (path.display(), prefixes.container);
    let saw = match document.value(differs.0) {
        _ if differs.0 != FIXED_CIDR && differs.0 != "ipv6" => {
            let all: Vec<_> = prefixes.hosts().map(|it| it.to_string()).collect();
            format!("{path} has no {} with this host's {}", differs.0, all.join(", "))
        }
        Some(value) => {
            format!("{path} has \"{}\": {value}, and this host's containers have {wanted}", differs.0)
        }
        None => format!("{path} has no \"{}\", and this host's containers have {wanted}", differs.0),
    };
    Some(Finding::new(
        kind,
        saw,
        format!("{SETUP}, or, with [docker] restart = true, install the unit sextant-docker-setup.path"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:1::/80\"}";

    fn prefixes() -> Prefixes {
        Prefixes {
            host: "2001:db8:8000:1::/64".parse().unwrap(),
            container: "2001:db8:8000:1::/80".parse().unwrap(),
            further: vec![],
            pools: vec!["2001:db8:8000::/40".parse().unwrap()],
        }
    }

    fn seen(network: Option<&str>) -> Engine {
        Engine {
            version: "28.5.2".into(),
            bridge: "docker0".into(),
            answers: true,
            network: network.map(|it| it.parse().unwrap()),
            ..Engine::default()
        }
    }

    fn found(text: &str, seen: &Engine, pools: bool) -> Vec<(&'static str, bool, String)> {
        let configured = match Document::parse(Some(text.as_bytes())) {
            Ok(document) => Configured::As(document),
            Err(error) => Configured::Unusable(error.to_string()),
        };
        let found = findings(Path::new("/d.json"), &configured, &prefixes(), seen, pools);
        found.into_iter().map(|it| (it.what, it.unready, format!("{}; {}", it.saw, it.fix))).collect()
    }

    #[test]
    fn each_disagreement_is_one_finding_with_its_fix() {
        let (own, former) = (Some("2001:db8:8000:1::/80"), Some("2001:db8:8000:7::/80"));
        let table = [
            ("{}", None, false, "docker-daemon-json", true, "/d.json has no \"ipv6\""),
            (
                "{\"ipv6\": true, \"fixed-cidr-v6\": \"2001:db8:8000:7::/80\"}",
                former,
                false,
                "docker-daemon-json",
                true,
                "has \"fixed-cidr-v6\": \"2001:db8:8000:7::/80\", and this host's containers have 2001:db8:8000:1::/80",
            ),
            // It works until the engine is restarted.
            ("{}", own, false, "docker-daemon-json", false, "docker setup"),
            ("{ invalid", own, false, "docker-daemon-json", false, "not valid JSON"),
            (
                "{\"default-gateway-v6\": \"::1\"}",
                own,
                false,
                "docker-daemon-json",
                false,
                "default-gateway-v6",
            ),
            (
                RIGHT,
                own,
                true,
                "docker-daemon-json",
                false,
                "no default-address-pools with this host's 2001:db8:8000:1::/64",
            ),
            (RIGHT, former, false, "docker-restart", true, "still gives docker0 2001:db8:8000:7::/80"),
            (RIGHT, None, false, "docker-restart", true, "still gives docker0 no prefix"),
        ];
        for (text, network, pools, kind, unready, words) in table {
            let found = found(text, &seen(network), pools);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].0, found[0].1), (kind, unready), "{found:?}");
            assert!(found[0].2.contains(words) && found[0].2.contains("docker setup"), "{found:?}");
        }
        assert!(found(RIGHT, &seen(own), false).is_empty());
        let used = Engine { containers: vec!["db".into(), "web".into()], ..seen(former) };
        assert!(found(RIGHT, &used, false)[0].2.contains("containers with addresses of it: db, web;"));
    }

    #[test]
    fn what_docker_has_left_is_found_once_nothing_else_is_wrong() {
        let mut seen = seen(Some("2001:db8:8000:1::/80"));
        seen.addresses = vec![("2001:db8:8000:1::1".parse().unwrap(), 64)];
        seen.routes = vec!["2001:db8:8000:1::/64".parse().unwrap()];
        let stale = found(RIGHT, &seen, false);
        assert_eq!((stale[0].0, stale[0].1, stale.len()), ("docker-stale", false, 1));
        assert!(
            stale[0].2.contains("address 2001:db8:8000:1::1/64, route 2001:db8:8000:1::/64"),
            "{stale:?}"
        );
        assert_eq!(found("{}", &seen, false).len(), 1, "the cause only");
        seen.addresses = vec![("2001:db8:8000:7::1".parse().unwrap(), 80)];
        seen.routes = vec!["2001:db8:8000:7::/80".parse().unwrap()];
        assert!(
            found(RIGHT, &seen, false).is_empty(),
            "another node's is reported where all bridges are judged"
        );
    }

    #[test]
    fn an_agent_that_can_read_nothing_reports_nothing() {
        let found =
            findings(Path::new("/d.json"), &Configured::Unknown, &prefixes(), &Engine::default(), false);
        assert!(found.is_empty(), "{found:?}");
    }
}
