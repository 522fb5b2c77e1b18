//! Agents' acknowledgements: from the agent, and as controllers pass them on.

use super::{
    MessageError, all,
    limits::{MOST_REPORTED, MOST_VERDICTS, reported, text},
};
use crate::{Ack, Applied, Revision, v1};

impl TryFrom<v1::Ack> for Ack {
    type Error = MessageError;

    fn try_from(message: v1::Ack) -> Result<Self, MessageError> {
        Ok(Self {
            revision: Revision(message.revision),
            failed: all("failed", reported(message.failed, MOST_REPORTED))?,
            conflicts: all("conflicts", reported(message.conflicts, MOST_REPORTED))?,
            held: message.held,
            verdicts: all("verdicts", reported(message.verdicts, MOST_VERDICTS))?,
            bgp: all("bgp", reported(message.bgp, MOST_REPORTED))?,
            problems: reported(message.problems, MOST_REPORTED).into_iter().map(Into::into).collect(),
            refused_pools: all("refused_pools", reported(message.refused_pools, MOST_REPORTED))?,
            ndp_proxy: message.ndp_proxy,
        })
    }
}

impl From<&Ack> for v1::Ack {
    fn from(ack: &Ack) -> Self {
        Self {
            revision: ack.revision.0,
            failed: ack.failed.iter().map(Into::into).collect(),
            conflicts: ack.conflicts.iter().map(Into::into).collect(),
            held: ack.held,
            verdicts: ack.verdicts.iter().map(Into::into).collect(),
            bgp: ack.bgp.iter().map(Into::into).collect(),
            problems: ack.problems.iter().map(Into::into).collect(),
            refused_pools: ack.refused_pools.iter().map(|it| (*it).into()).collect(),
            ndp_proxy: ack.ndp_proxy,
        }
    }
}

impl TryFrom<v1::Applied> for Applied {
    type Error = MessageError;

    fn try_from(message: v1::Applied) -> Result<Self, MessageError> {
        let v1::Applied {
            revision,
            failed,
            conflicts,
            version,
            held,
            bgp,
            problems,
            refused_pools,
            ndp_proxy,
        } = message;
        // Controllers do not pass verdicts on: all read them from the store.
        let verdicts = Vec::new();
        let ack =
            v1::Ack { revision, failed, conflicts, held, verdicts, bgp, problems, refused_pools, ndp_proxy };
        Ok(Self { ack: ack.try_into()?, version: text(version) })
    }
}

impl From<&Applied> for v1::Applied {
    fn from(applied: &Applied) -> Self {
        let v1::Ack {
            revision,
            failed,
            conflicts,
            held,
            verdicts: _,
            bgp,
            problems,
            refused_pools,
            ndp_proxy,
        } = (&applied.ack).into();
        let version = applied.version.clone();
        Self { revision, failed, conflicts, version, held, bgp, problems, refused_pools, ndp_proxy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BgpNeighbour, Conflict, FailedRoute, Problem, Verdict, convert::LONGEST_TEXT};

    fn ack() -> Ack {
        let destination = "2001:db8:1::/64".parse().unwrap();
        Ack {
            revision: Revision(7),
            failed: vec![FailedRoute { destination, error: "File exists".into() }],
            conflicts: vec![Conflict {
                destination,
                protocol: "static".into(),
                metric: 100,
                ours_wins: true,
                ours: Some("2001:db8::/40".parse().unwrap()),
                leads: "via fe80::1 dev eth0".into(),
            }],
            held: 3,
            verdicts: vec![Verdict { node: "host2".parse().unwrap(), forwarding: true }],
            bgp: vec![BgpNeighbour {
                address: "fe80::1".parse().unwrap(),
                interface: "eth0".into(),
                remote_as: 64512,
                state: "Established".into(),
                since_unix_ms: 1,
                sent: 2,
                received: 3,
                error: "hold timer expired".into(),
                bfd: "up".into(),
                imported: 4,
            }],
            problems: vec![Problem {
                what: "bridge-missing".into(),
                saw: "bridge \"docker0\" does not exist".into(),
                fix: "create it".into(),
                since_unix_ms: 5,
            }],
            refused_pools: vec!["2001:db8::/40".parse().unwrap()],
            ndp_proxy: true,
        }
    }

    #[test]
    fn an_ack_is_read_as_it_was_sent() {
        assert_eq!(Ack::try_from(v1::Ack::from(&ack())), Ok(ack()));
    }

    /// An ack of which each text and each list is too long.
    fn hostile() -> Ack {
        let long = || "x".repeat(4000);
        let Ack { failed, conflicts, bgp, problems, verdicts, refused_pools, .. } = ack();
        let failed = FailedRoute { error: long(), ..failed[0].clone() };
        let conflict = Conflict { protocol: long(), leads: long(), ..conflicts[0].clone() };
        let bgp =
            BgpNeighbour { interface: long(), state: long(), error: long(), bfd: long(), ..bgp[0].clone() };
        let problem = Problem { what: long(), saw: long(), fix: long(), ..problems[0].clone() };
        Ack {
            failed: vec![failed; 1000],
            conflicts: vec![conflict; 1000],
            bgp: vec![bgp; 1000],
            problems: vec![problem; 1000],
            refused_pools: vec![refused_pools[0]; 1000],
            verdicts: vec![verdicts[0].clone(); MOST_VERDICTS + 1],
            ..ack()
        }
    }

    /// DESIGN I14: what one agent reports takes little memory of the controllers, whatever it says.
    #[test]
    fn an_ack_is_cut_off_where_it_is_longer_than_anybody_reads() {
        let applied = Applied { ack: hostile(), version: "x".repeat(4000) };
        let read = Ack::try_from(v1::Ack::from(&applied.ack)).unwrap();
        let Ack { failed, conflicts, bgp, problems, verdicts, refused_pools, .. } = &read;
        let lists = [failed.len(), conflicts.len(), bgp.len(), problems.len(), refused_pools.len()];
        assert_eq!((lists, verdicts.len()), ([MOST_REPORTED; 5], MOST_VERDICTS));
        let passed_on = Applied::try_from(v1::Applied::from(&applied)).unwrap();
        let (bgp, problem, conflict) = (&bgp[0], &problems[0], &conflicts[0]);
        for text in [
            &failed[0].error,
            &conflict.protocol,
            &conflict.leads,
            &bgp.interface,
            &bgp.state,
            &bgp.error,
            &bgp.bfd,
            &problem.what,
            &problem.saw,
            &problem.fix,
            &passed_on.version,
        ] {
            assert!(text.len() <= LONGEST_TEXT, "{} octets", text.len());
        }
        let octets = prost::Message::encoded_len(&v1::Ack::from(&read));
        assert!(octets < 2 << 20, "{octets}");
    }

    #[test]
    fn controllers_pass_an_ack_on_without_its_verdicts() {
        let applied = |ack| Applied { ack, version: "0.1.0".into() };
        let passed_on = Applied::try_from(v1::Applied::from(&applied(ack())));
        assert_eq!(passed_on, Ok(applied(Ack { verdicts: Vec::new(), ..ack() })));
    }
}
