//! Published ports: whether the rules for them are in place, and which source address their containers see.

use std::fs;

use sextant_docker::{
    engine::{Engine, EngineError},
    firewall::{policy::Passes, tables},
    network::Published,
};

use crate::problems::Finding;

/// So many are named.
const MOST_NAMED: usize = 4;
/// The process that passes connections to a published port on, where no rule does.
const PROXY: &str = "docker-proxy";

/// What is wrong with the agent's rules and with published ports of containers that the policy is for.
///
/// # Errors
/// If the engine does not answer.
pub(super) async fn findings(engine: &Engine, passes: Passes) -> Result<Vec<Finding>, EngineError> {
    let published = engine.published_inside(&passes.own).await?;
    let at_host = engine.published_at_host(&passes.own).await?;
    let passes = Passes { published, ..passes };
    // Where a table cannot be read, the agent reports that.
    let missing = tables::lacking(&passes).await.unwrap_or_default();
    let saved = tables::saved().await.ok().flatten().unwrap_or_default();
    Ok(rules(&missing).into_iter().chain(at_hosts(&at_host, &saved, &proxies())).collect())
}

/// Rules of the agent that are missing.
fn rules(missing: &[String]) -> Option<Finding> {
    // That of a port says most.
    let example = missing.iter().find(|rule| rule.contains("--dport")).or(missing.first())?;
    let more = match missing.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    Some(Finding::new(
        "docker-rules-missing",
        format!(
            "the firewall lacks a rule that the agent keeps for packets to containers: ip6tables {example}{more}"
        ),
        "start sextant-agent, which puts it there, or see its log (`journalctl -u sextant-agent`)",
    ))
}

/// Ports that are published at addresses of the host without a rule of the engine.
fn at_hosts(published: &[Published], saved: &str, proxies: &[Vec<String>]) -> Option<Finding> {
    let without: Vec<_> = published.iter().filter(|port| !has_rule(port, saved)).collect();
    let named = |ports: &[&Published]| {
        let names = ports.iter().take(MOST_NAMED);
        let names: Vec<_> =
            names.map(|it| format!("{} of container {}", it.host_port, it.container)).collect();
        let more = ports.len().saturating_sub(MOST_NAMED);
        names.join(", ") + &(if more > 0 { format!(", and {more} more") } else { String::new() })
    };
    if nat_has_docker(saved) {
        return (!without.is_empty()).then(|| {
            Finding::new(
                "docker-published-rules",
                format!(
                    "Docker's rules for published ports are missing in ip6tables -t nat: port {}",
                    named(&without)
                ),
                "restart Docker (`systemctl restart docker`), which makes them again; something else has removed them",
            )
        });
    }
    let proxied: Vec<_> = without.into_iter().filter(|port| is_proxied(port, proxies)).collect();
    (!proxied.is_empty()).then(|| {
        Finding::new(
            "docker-userland-proxy",
            format!(
                "connections over IPv6 to a published port of this host go through docker-proxy, so the container sees an address of its \
                 bridge as source, and not the client's: port {}",
                named(&proxied)
            ),
            "let clients use the container's own address and port; or set \"ip6tables\": true in daemon.json (up to Docker 26 with \
             \"experimental\": true), and restart Docker",
        )
    })
}

/// Whether the engine keeps rules in the table.
fn nat_has_docker(saved: &str) -> bool {
    let nat = saved.split("*nat").nth(1).unwrap_or_default();
    nat.split("COMMIT").next().unwrap_or_default().lines().any(|line| line.starts_with(":DOCKER "))
}

fn has_rule(Published { port, host_port, .. }: &Published, saved: &str) -> bool {
    let (dport, to) = (format!("--dport {host_port} "), format!("[{}]:{}", port.address, port.port));
    let protocol = format!("-p {} ", port.protocol);
    let all = [dport.as_str(), &protocol, "-j DNAT", &to];
    saved.lines().any(|line| all.iter().all(|word| line.contains(word)))
}

fn is_proxied(Published { port, host_port, .. }: &Published, proxies: &[Vec<String>]) -> bool {
    let wanted = [
        ("-host-port", host_port.to_string()),
        ("-container-ip", port.address.to_string()),
        ("-proto", port.protocol.to_string()),
    ];
    let has = |words: &[String], (flag, value): &(&str, String)| {
        words.windows(2).any(|pair| pair[0] == *flag && pair[1] == *value)
    };
    proxies.iter().any(|words| wanted.iter().all(|one| has(words, one)))
}

/// The words of all such processes.
fn proxies() -> Vec<Vec<String>> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        (name.trim() == PROXY).then(|| fs::read_to_string(process.path().join("cmdline")).ok())?
    });
    lines.map(|line| line.split('\0').map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use sextant_docker::firewall::policy::{Port, Protocol};

    use super::*;

    fn web() -> Published {
        let port = Port { address: "2001:db8:1::5".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        Published { container: "web".into(), port, host_port: 8080 }
    }

    fn kind(saved: &str, proxies: &[&str]) -> Option<&'static str> {
        let proxies: Vec<_> =
            proxies.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        at_hosts(&[web()], saved, &proxies).map(|finding| finding.what)
    }

    /// By Docker 20.10.
    const PROXIED: &str = "/usr/bin/docker-proxy -proto tcp -host-ip :: -host-port 8080 -container-ip 2001:db8:1::5 -container-port 80";

    #[test]
    fn a_proxy_without_a_rule_hides_the_client() {
        assert_eq!(kind("", &[PROXIED]), Some("docker-userland-proxy"));
        assert_eq!(kind("", &[]), None, "nothing listens");
        assert_eq!(kind("", &[&PROXIED.replace("::5", "::6")]), None, "of another container");
        assert_eq!(kind("*filter\n:DOCKER - [0:0]\nCOMMIT\n", &[PROXIED]), Some("docker-userland-proxy"));
    }

    #[test]
    fn an_engine_with_rules_has_one_for_each_port() {
        let rule =
            "-A DOCKER ! -i br-1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination [2001:db8:1::5]:80";
        let nat = |rule: &str| format!("*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n{rule}\nCOMMIT\n");
        assert_eq!(kind(&nat(rule), &[PROXIED]), None);
        for missing in
            ["", &rule.replace("8080", "80801"), &rule.replace("::5]", "::6]"), &rule.replace("tcp", "udp")]
        {
            assert_eq!(kind(&nat(missing), &[PROXIED]), Some("docker-published-rules"), "{missing}");
        }
    }

    #[test]
    fn a_missing_rule_of_a_port_is_named_first() {
        let missing =
            ["-t filter -A FORWARD -d x", "-t filter -A SEXTANT-PUBLISHED --dport 80"].map(str::to_owned);
        let finding = rules(&missing).unwrap();
        assert!(finding.saw.ends_with("ip6tables -t filter -A SEXTANT-PUBLISHED --dport 80, and 1 more"));
        assert_eq!(rules(&[]), None);
    }
}
