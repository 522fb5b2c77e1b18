//! Hosts with a prefix of each of two pools: a network of each has a part of it, by the IPAM driver and by Docker's own pools.

use std::collections::BTreeSet;

use sextant_proto::Prefix;
use sextant_tests::{SECONDS, cluster::PoolArgs, expect_text, poll};

use crate::{
    bed::Bed,
    ipam::{leases, leases_are_of},
    setup_bed::SetupBed,
};

const ULA: PoolArgs = PoolArgs { prefix: "fd00:5e00::/40", host_len: "64", container_len: "80" };

/// Waits until a host has a claim of each pool, or of one; returns the host prefixes.
fn host_prefixes(cluster: &sextant_tests::cluster::Cluster, index: usize, count: usize) -> Vec<Prefix> {
    poll(&format!("{count} claims"), 20 * SECONDS, || {
        let node = cluster.node(cluster.hosts[index].name());
        let claims = node["claims"].as_array().cloned().unwrap_or_default();
        let of = |claim: &serde_json::Value| claim["host_prefix"].as_str()?.parse().ok();
        let prefixes: Vec<Prefix> = claims.iter().filter_map(of).collect();
        anyhow::ensure!(prefixes.len() == count, "{node}");
        Ok(prefixes)
    })
}

/// The part of a prefix that a network has.
fn part(bed: &Bed, index: usize, network: &str, of: Prefix) -> String {
    let subnets = bed.subnets(index, network);
    let inside = |it: &&String| it.parse().is_ok_and(|prefix| of.covers(prefix));
    subnets.iter().find(inside).cloned().unwrap_or_else(|| panic!("no part of {of}: {subnets:?}"))
}

#[test]
fn the_driver_gives_a_network_a_part_of_the_pool_that_it_names_and_a_lost_claim_touches_no_other_ones_leases()
{
    let mut bed = Bed::ipam("docker ipam two pools", 2);
    bed.cluster.add_another_pool("ula", ULA);
    bed.restart_agents(&["--docker-mode", "ipam", "--pool", "main,ula"]);
    let hosts = [0, 1].map(|index| host_prefixes(&bed.cluster, index, 2));
    let of_ula = ["--ipam-opt", "sextant.pool=ula"];
    let mut addresses = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        poll("a network of the second pool", 10 * SECONDS, || bed.create_by_driver(index, "inside", &of_ula));
        bed.create_by_driver(index, "x", &[]).unwrap();
        part(&bed, index, "x", host[0]);
        part(&bed, index, "inside", host[1]);
        // A container on both networks, and one on the second only.
        bed.engines[index].container("web", &["--network", "x"]).unwrap();
        bed.engines[index].run(&["network", "connect", "inside", "web"]).unwrap();
        addresses.push(bed.engines[index].container("only", &["--network", "inside"]).unwrap());
        bed.engines[index].serve("only", 8000).unwrap();
    }
    for (from, to) in [(0, 1), (1, 0)] {
        bed.pings(from, "web", &addresses[to]);
        expect_text("the source", 10 * SECONDS, &addresses[from], || {
            bed.engines[from].ask("only", &addresses[to], 8000)
        });
    }
    bed.status_is_silent();
    let refused = |more: &[&str]| bed.create_by_driver(0, "no", more).unwrap_err().to_string();
    let other = refused(&["--ipam-opt", "sextant.pool=other"]);
    assert!(other.contains("no prefix of pool other, but of main, ula"), "{other}");
    let short = refused(&["--ipam-opt", "pool=ula"]);
    assert!(short.contains("sextant.pool"), "{short}");
    let elsewhere = hosts[1][1].nth(80, 9).unwrap().to_string();
    assert!(refused(&["--subnet", &elsewhere]).contains(&format!("{}, {}", hosts[0][0], hosts[0][1])));
    let asked = hosts[0][1].nth(80, 0x77).unwrap().to_string();
    bed.create_by_driver(0, "asked", &["--subnet", &asked]).unwrap();
    bed.engines[0].run(&["network", "rm", "asked"]).unwrap();

    // One claim is lost after the other: all leases stay, and networks of the other pool are made.
    let all = ["x", "inside"].map(str::to_owned);
    leases_are_of(&bed, 0, &all);
    let before: BTreeSet<_> = leases(&bed, 0).unwrap();
    for (lost, kept) in [("ula", "main"), ("main", "ula")] {
        bed.cluster.sextant(&["pool", "drain", lost]);
        bed.cluster.sextant(&["node", "forget", "h1", "--pool", lost, "--force"]);
        let left = host_prefixes(&bed.cluster, 0, 1)[0];
        let (lost_opt, kept_opt) = (format!("sextant.pool={lost}"), format!("sextant.pool={kept}"));
        poll("it is refused", 10 * SECONDS, || {
            let made = bed.create_by_driver(0, "no", &["--ipam-opt", &lost_opt]);
            let error = match made {
                Ok(_) => {
                    bed.engines[0].run(&["network", "rm", "no"])?;
                    anyhow::bail!("made of {lost}")
                }
                Err(error) => error.to_string(),
            };
            anyhow::ensure!(error.contains(&format!("no prefix of pool {lost}, but of {kept}")), "{error}");
            Ok(())
        });
        if lost == "main" {
            let error = bed.create_by_driver(0, "no", &[]).unwrap_err().to_string();
            assert!(error.contains("no prefix of pool main"), "not one of ula instead: {error}");
        }
        bed.create_by_driver(0, "more", &["--ipam-opt", &kept_opt]).unwrap();
        part(&bed, 0, "more", left);
        bed.status_has(&[
            "outside of this host's",
            if lost == "ula" { "network inside" } else { "network x" },
        ]);
        assert!(leases(&bed, 0).unwrap().is_superset(&before), "{lost}");
        bed.engines[0].run(&["network", "rm", "more"]).unwrap();
        bed.cluster.sextant(&["pool", "undrain", lost]);
        assert_eq!(host_prefixes(&bed.cluster, 0, 2), hosts[0], "the quarantined prefix comes first");
        bed.status_is_silent();
    }
    leases_are_of(&bed, 0, &all);
    bed.pings(1, "only", &addresses[0]);
}

#[test]
fn dockers_own_pools_have_a_part_of_each_prefix_where_docker_can() {
    let mut bed = SetupBed::start("docker pools two", 2, &[]);
    let version = bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    if version.split('.').next().unwrap().parse::<u32>().unwrap() < 27 {
        // `every_network_with_ipv6_gets_a_prefix_by_itself_where_docker_can` has the refusal.
        return;
    }
    bed.cluster.add_another_pool("ula", ULA);
    let mut addresses = Vec::new();
    for index in 0..2 {
        bed.restart_agent_with(index, &["--pool", "main,ula"]);
        let host = host_prefixes(&bed.cluster, index, 2);
        bed.setup(index, &["--mode", "pools"]).unwrap();
        bed.restart_engine(index).unwrap();
        bed.restart_agent_with(index, &["--pool", "main,ula"]);
        bed.setup(index, &[]).unwrap();
        let engine = &bed.engines[index];
        engine.run(&["network", "create", "--ipv6", "web"]).unwrap();
        let subnet = |name: &str| {
            let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
            let shown = engine.run(&["network", "inspect", "-f", format, name]).unwrap();
            shown.split_whitespace().find(|it| it.contains("::")).unwrap().parse::<Prefix>().unwrap()
        };
        assert!(host[0].covers(subnet("web")), "the primary one first");
        // A network of the second one is asked for, and is no other's then.
        let asked = host[1].nth(80, 0x8000).unwrap().to_string();
        engine.run(&["network", "create", "--ipv6", "--subnet", &asked, "inside"]).unwrap();
        engine.container("web", &["--network", "web"]).unwrap();
        engine.run(&["network", "connect", "inside", "web"]).unwrap();
        addresses.push(engine.container("only", &["--network", "inside"]).unwrap());
        engine.serve("only", 8000).unwrap();
    }
    for (from, to) in [(0, 1), (1, 0)] {
        bed.pings(from, "web", &addresses[to]);
        expect_text("the source", 10 * SECONDS, &addresses[from], || {
            bed.engines[from].ask("only", &addresses[to], 8000)
        });
    }
    bed.status_is_silent();
}

#[test]
fn docker_takes_a_network_from_the_next_pool_once_the_first_one_is_full_where_docker_can() {
    const SMALL: PoolArgs = PoolArgs { prefix: "2001:db8:8000::/72", host_len: "79", container_len: "80" };
    let mut bed = SetupBed::start_in("docker pools full", SMALL, &[&[]]);
    let version = bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    if version.split('.').next().unwrap().parse::<u32>().unwrap() < 27 {
        return;
    }
    bed.cluster.add_another_pool("ula", ULA);
    bed.restart_agent_with(0, &["--pool", "main,ula"]);
    let host = host_prefixes(&bed.cluster, 0, 2);
    bed.setup(0, &["--mode", "pools"]).unwrap();
    bed.restart_engine(0).unwrap();
    bed.restart_agent_with(0, &["--pool", "main,ula"]);
    let prefixes = ["one", "two"].map(|name| {
        bed.engines[0].run(&["network", "create", "--ipv6", name]).unwrap();
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let shown = bed.engines[0].run(&["network", "inspect", "-f", format, name]).unwrap();
        shown.split_whitespace().find(|it| it.contains("::")).unwrap().parse::<Prefix>().unwrap()
    });
    assert!(host[0].covers(prefixes[0]) && host[1].covers(prefixes[1]), "{prefixes:?} of {host:?}");
    let bridge = host[1].nth(80, 0).unwrap();
    assert!(!bridge.overlaps(prefixes[1]), "the agent's address of the second claim is in {bridge}");
    bed.status_is_silent();
}
