//! ICMPv6 echo from one namespace to an address, and between all containers.

use std::{fmt, net::Ipv6Addr, thread};

use anyhow::{Context, bail};

use super::{host::Container, namespace::Namespace};

/// How many pings of a matrix run at the same time.
const CONCURRENT: usize = 16;

/// The outcome of one echo request.
#[derive(Debug, Clone, PartialEq)]
pub enum PingOutcome {
    /// An answer, after this many milliseconds.
    Replied(f64),
    /// Refused: the reason (`No route`, `Address unreachable`, …) and the sender of the ICMPv6 error.
    Unreachable(String),
    /// A routing loop: the hop limit was exceeded.
    Looped(String),
    /// No answer within a second.
    Lost,
}

impl PingOutcome {
    /// `Ok` if it was answered; for [`poll`](crate::poll).
    ///
    /// # Errors
    /// If not, with the outcome.
    pub fn replied(&self) -> anyhow::Result<()> {
        match self {
            Self::Replied(_) => Ok(()),
            other => bail!("{other}"),
        }
    }

    /// `Ok` if it was refused.
    ///
    /// # Errors
    /// If not, with the outcome.
    pub fn refused(&self) -> anyhow::Result<()> {
        match self {
            Self::Unreachable(_) => Ok(()),
            other => bail!("{other}"),
        }
    }
}

impl fmt::Display for PingOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replied(millis) => write!(f, "replied in {millis} ms"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Looped(by) => write!(f, "looped: {by}"),
            Self::Lost => f.write_str("lost: no answer in a second"),
        }
    }
}

impl Namespace {
    /// Sends one echo request and waits up to a second.
    ///
    /// # Errors
    /// If `ping` is missing or its output cannot be parsed.
    pub fn ping(&self, target: Ipv6Addr) -> anyhow::Result<PingOutcome> {
        let target = target.to_string();
        let output =
            self.run(&["ping", "-6", "-n", "-c", "1", "-W", "1", &target]).context("install iputils-ping")?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        outcome(&text)
    }
}

/// Pings from each container to each other one. Returns a line `from → to: outcome` for each ping without an answer.
///
/// # Errors
/// As [`Namespace::ping`].
pub fn ping_matrix(containers: &[Container]) -> anyhow::Result<String> {
    let pairs: Vec<_> = containers
        .iter()
        .flat_map(|from| containers.iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.name() != to.name())
        .collect();
    let mut failures = Vec::new();
    for chunk in pairs.chunks(CONCURRENT) {
        let outcomes = thread::scope(|scope| {
            let pings: Vec<_> =
                chunk.iter().map(|(from, to)| scope.spawn(|| from.ping(to.address()))).collect();
            let outcomes = pings.into_iter().map(|ping| ping.join().expect("a ping does not panic"));
            outcomes.collect::<Result<Vec<_>, _>>()
        })?;
        let failed = chunk.iter().zip(outcomes).filter(|(_, outcome)| outcome.replied().is_err());
        failures.extend(
            failed.map(|((from, to), outcome)| format!("{} → {}: {outcome}", from.name(), to.name())),
        );
    }
    Ok(failures.join("\n"))
}

/// Parses the output of iputils' `ping`.
fn outcome(text: &str) -> anyhow::Result<PingOutcome> {
    for line in text.lines() {
        if let Some((_, time)) = line.split_once(" time=") {
            let millis = time.split_whitespace().next().unwrap_or_default();
            return Ok(PingOutcome::Replied(millis.parse().with_context(|| line.to_owned())?));
        }
        if line.contains("Time exceeded") {
            return Ok(PingOutcome::Looped(line.to_owned()));
        }
        if let Some((from, why)) = line.split_once("Destination unreachable: ") {
            let from = from.split_whitespace().nth(1).unwrap_or("?");
            return Ok(PingOutcome::Unreachable(format!("{why} (from {from})")));
        }
        // The sender's own kernel refuses.
        if let Some(why) = ["Network is unreachable", "No route to host", "Permission denied"]
            .into_iter()
            .find(|why| line.contains(why))
        {
            return Ok(PingOutcome::Unreachable(format!("{why} (from itself)")));
        }
    }
    if text.contains(" 0 received") {
        return Ok(PingOutcome::Lost);
    }
    bail!("the output of ping cannot be parsed: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_parsed() {
        // Written by `ping -6 -n -c 1 -W 1` of iputils 20221126.
        let replied = "64 bytes from 2001:db8::2: icmp_seq=1 ttl=64 time=0.052 ms\n";
        assert_eq!(outcome(replied).unwrap(), PingOutcome::Replied(0.052));
        let refused = "From 2001:db8:1::1 icmp_seq=1 Destination unreachable: No route\n";
        assert_eq!(
            outcome(refused).unwrap(),
            PingOutcome::Unreachable("No route (from 2001:db8:1::1)".to_owned())
        );
        let itself = "ping: connect: Network is unreachable\n";
        assert!(outcome(itself).unwrap().refused().is_ok());
        let looped = "From 2001:db8::3 icmp_seq=1 Time exceeded: Hop limit\n";
        assert!(matches!(outcome(looped).unwrap(), PingOutcome::Looped(_)));
        let lost = "1 packets transmitted, 0 received, 100% packet loss, time 0ms\n";
        assert_eq!(outcome(lost).unwrap(), PingOutcome::Lost);
        assert!(outcome("ping: bad option\n").is_err());
    }
}
