//! The network's MTU: the size of the largest packet that the uplinks carry.
//!
//! Packets that are too large are refused where they leave (RFC 8201): containers work with a wrong MTU too. So it disconnects no
//! container.

use super::{MTU, Step, Wanted, is_ours};
use crate::{
    network::{Container, Network},
    trouble::Trouble,
};

/// The MTU of a network without the option.
const DEFAULT: u32 = 1500;

/// The option's value; none where the engine's default is right.
pub(super) fn option(mtu: Option<u32>) -> Option<u32> {
    mtu.filter(|mtu| *mtu != DEFAULT)
}

/// The next step of a network that is right but for its MTU, perhaps.
pub(super) fn step(wanted: &Wanted, present: &Network, users: &[Container]) -> Step {
    let now = present.options.get(MTU).and_then(|mtu| mtu.parse().ok()).unwrap_or(DEFAULT);
    let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != now) else { return Step::Nothing };
    if is_ours(present) && users.is_empty() {
        let differs = format!("its MTU is {now}, that of the uplinks {mtu}");
        return Step::Replace { id: present.id.clone(), differs, users: Vec::new() };
    }
    if now < mtu {
        return Step::Nothing;
    }
    let containers = users.iter().map(|container| container.name.clone()).collect();
    let (name, ours) = (present.name.clone(), is_ours(present));
    Step::Blocked(Trouble::Mtu { name, now, mtu, ours, containers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::tests::{made, wanted, web};

    fn step(wanted_mtu: Option<u32>, now: Option<&str>, users: &[Container]) -> Step {
        let mut present = made(&wanted());
        present.options.extend(now.map(|now| (MTU.to_owned(), now.to_owned())));
        Wanted { mtu: wanted_mtu, replace_used: true, ..wanted() }.step(20, &[present], users)
    }

    #[test]
    fn an_unused_network_follows_it() {
        for (mtu, now) in [(1400, None), (1300, Some("1400")), (1500, Some("1300")), (9000, None)] {
            let Step::Replace { differs, .. } = step(Some(mtu), now, &[]) else { panic!("{mtu} {now:?}") };
            assert_eq!(differs, format!("its MTU is {}, that of the uplinks {mtu}", now.unwrap_or("1500")));
        }
        for (mtu, now) in [(None, Some("1400")), (Some(1500), None), (Some(1400), Some("1400"))] {
            assert_eq!(step(mtu, now, &[]), Step::Nothing);
        }
        let options = |mtu| Wanted { mtu, ..wanted() }.options(20).remove(MTU);
        assert_eq!((options(Some(1500)), options(Some(9000))), (None, Some("9000".into())));
    }

    #[test]
    fn a_used_network_keeps_its_containers_and_a_larger_mtu_is_reported() {
        assert_eq!(step(Some(1500), Some("1300"), &[web()]), Step::Nothing, "smaller packets fit too");
        let Step::Blocked(trouble) = step(Some(1300), None, &[web()]) else { panic!() };
        assert!(
            trouble.to_string().contains("has MTU 1500, and this host's uplinks carry 1300"),
            "{trouble}"
        );
        assert!(trouble.to_string().ends_with("on it: web") && trouble.fix().contains("docker rm -f web"));
    }
}
