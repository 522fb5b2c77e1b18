//! `sextant-agent doctor`: looks at this host, and names each problem with its mend. The agent does the same once when it
//! starts, and warns.
//!
//! What is wrong, [`checks`] decides; this gathers the facts. It changes nothing but what `--fix` may: limits that are the
//! whole kernel's, raised, and only from the machine's own network namespace.

mod checks;

use std::{fs, process::ExitCode, time::Duration};

use tokio::process::Command;

use self::checks::{Facts, Problem, problems};
use crate::{
    host::{Wanted, apply::find, findings, privilege, undo::undo},
    kernel::{Kernel, KernelError, NetlinkKernel, RouteTarget, Scope},
    settings::HostSettings,
    state::{StateDir, StateError},
    uplinks::{default_uplinks, existing_uplinks, local_uplinks},
};

/// How long a firewall may take to tell its rules.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks, tells on standard output, and mends what is safe if it is to. Fails if a problem is left.
///
/// # Errors
/// If the kernel cannot be asked, or refuses a mend.
pub async fn run(host: &HostSettings, fix: bool) -> anyhow::Result<ExitCode> {
    privilege::check()?;
    let kernel = NetlinkKernel::open()?;
    let mut left = 0;
    let of_kernel = problems(&facts(&kernel, host).await?);
    for problem in of_kernel.into_iter().chain(of_settings(&kernel, host).await?) {
        println!("{problem}");
        if fix && !problem.fix.is_empty() && is_machines_own() {
            mend(&kernel, &problem)?;
        } else {
            left += 1;
        }
    }
    match left {
        0 => println!("nothing is wrong that a doctor can see"),
        _ => println!("{left} to mend"),
    }
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What of the settings is not obeyed, and what of earlier ones is left: by the agent's own record, and by the decision that
/// it makes itself when it starts.
async fn of_settings(kernel: &dyn Kernel, host: &HostSettings) -> anyhow::Result<Vec<Problem>> {
    let mut host = host.clone();
    let facts = findings::Facts {
        links: kernel.links().await?,
        addresses: kernel.addresses().await?,
        rules: kernel.rules().await?,
    };
    if host.uplinks.is_empty() {
        let routes = kernel.routes(Scope::Table(host.table)).await?;
        host.uplinks = default_uplinks(&routes, &facts.links).unwrap_or_default();
    }
    let (ledger, claim) =
        match (StateDir::peek_ledger(&host.state_dir), StateDir::peek_claim(&host.state_dir)) {
            (Ok(ledger), Ok(claim)) => (ledger, claim),
            (Err(error), _) | (_, Err(error)) => return Ok(vec![unreadable(&error)]),
        };
    let mut found = findings::of_settings(&host, claim.as_ref(), &facts);
    // Without a claim nothing is known to be wrong with an address: the agent may not have started yet.
    if claim.is_some() {
        let undo = undo(&ledger, &find(kernel, &ledger).await?, &Wanted::by(&host, claim.as_ref()));
        found.extend(findings::of_undo(&undo.steps));
    }
    let contradiction = findings::check_bridge(&host).err().map(|error| error.to_string());
    let contradiction = contradiction.map(|what| Problem {
        what,
        mend: "the agent does not start until that is put right".to_owned(),
        fix: vec![],
    });
    let found = found.into_iter().map(|it| Problem { what: it.saw, mend: it.fix, fix: vec![] });
    Ok(contradiction.into_iter().chain(found).collect())
}

fn unreadable(error: &StateError) -> Problem {
    Problem {
        what: error.to_string(),
        mend: "put the state directory right before the agent starts".to_owned(),
        fix: vec![],
    }
}

/// Warns of each problem, but for those of the uplinks, which the engine itself tells of.
///
/// # Errors
/// If the kernel cannot be asked.
pub async fn warn(kernel: &dyn Kernel, host: &HostSettings) -> Result<(), KernelError> {
    let host = HostSettings { uplinks: vec![], ..host.clone() };
    for Problem { what, mend, .. } in problems(&facts(kernel, &host).await?) {
        tracing::warn!(problem = what, mend, "the host is not ready for all that may come");
    }
    Ok(())
}

fn mend(kernel: &dyn Kernel, problem: &Problem) -> Result<(), KernelError> {
    for (path, value) in &problem.fix {
        kernel.set_sysctl(path, &value.to_string())?;
        println!("  done: {path} = {value}, until the next boot");
    }
    Ok(())
}

async fn facts(kernel: &dyn Kernel, host: &HostSettings) -> Result<Facts, KernelError> {
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let routes = kernel.routes(Scope::Table(host.table)).await?;
    let ours = kernel.routes(Scope::Ours).await?;
    let hops = ours.iter().filter_map(|route| match &route.target {
        RouteTarget::Via(hops) => Some(hops),
        _ => None,
    });
    let bridge = links.iter().find(|link| link.name == host.bridge).map(|bridge| bridge.index);
    let unusable = || {
        let usable = local_uplinks(&host.uplinks, &links, &addresses);
        let without = usable.iter().find(|local| local.uplink.addresses.is_empty())?;
        Some(format!("uplink \"{}\" has no usable global IPv6 address", without.uplink.interface))
    };
    let missing = existing_uplinks(&host.uplinks, &links).err().map(|error| error.to_string());
    Ok(Facts {
        kernel: kernel_version(),
        next_hops: hops.flatten().collect::<std::collections::BTreeSet<_>>().len(),
        containers: links.iter().filter(|link| bridge.is_some() && link.controller == bridge).count(),
        routes: routes.len(),
        gc_thresh: number(kernel, "net/ipv6/neigh/default/gc_thresh2")?
            .zip(number(kernel, "net/ipv6/neigh/default/gc_thresh3")?),
        max_size: number(kernel, "net/ipv6/route/max_size")?,
        ruleset: ruleset().await.unwrap_or_default(),
        legacy_forward: legacy_forward().await.unwrap_or_default(),
        uplinks: missing.or_else(unusable),
    })
}

fn number(kernel: &dyn Kernel, path: &str) -> Result<Option<u64>, KernelError> {
    Ok(kernel.sysctl(path)?.and_then(|value| value.parse().ok()))
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The rules of nftables, if it tells them.
pub(crate) async fn ruleset() -> Option<String> {
    output("nft", &["list", "ruleset"]).await
}

/// The first line of the old ip6tables' FORWARD chain, which is its policy, if it tells it.
pub(crate) async fn legacy_forward() -> Option<String> {
    let rules = output("ip6tables-legacy", &["-S", "FORWARD"]).await?;
    Some(rules.lines().take(1).collect())
}

/// What a program writes; nothing if it is not there, fails, or takes too long.
async fn output(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => None,
    }
}

/// Not that of a container or of a test, from where the machine's own limits must not be changed.
fn is_machines_own() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    namespace("self").is_some() && namespace("self") == namespace("1")
}
