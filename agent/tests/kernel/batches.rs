//! Many changes at once.

use nix::libc::{EEXIST, EINVAL, ENODEV, ESRCH};
use sextant_agent::kernel::{Change, Kernel, OwnRoute};

use crate::namespace::{done, ip_batch, key, nth_destination, ours, via, with_uplink};

const MANY: u32 = 10_000;

#[test]
fn each_error_is_at_the_index_of_its_change() {
    with_uplink(async |kernel, up0| {
        let foreign = |n: u32| n % 1000 == 500;
        ip_batch(
            (0..MANY)
                .filter(|n| foreign(*n))
                .map(|n| format!("route add {} via 2001:db8::7 metric 512 proto static", nth_destination(n))),
        );
        let route = |n: u32| match n {
            4_321 => via(&nth_destination(n), &["ff02::1"], up0),
            4_322 => via(&nth_destination(n), &["2001:db8::2"], 4_000_000),
            4_323 => OwnRoute { key: key(&nth_destination(n)), ..via("::/0", &[], up0) },
            n => via(&nth_destination(n), &["2001:db8::2", "2001:db8::3"][..1 + (n % 2) as usize], up0),
        };
        let changes: Vec<Change> = (0..MANY)
            .map(|n| if n == 7_777 { Change::Delete(route(n)) } else { Change::Add(route(n)) })
            .collect();
        let results = kernel.apply(&changes).await.unwrap();
        assert_eq!(results.len(), changes.len());
        for (n, result) in (0..MANY).zip(&results) {
            let expected = match n {
                4_321 | 4_323 => EINVAL,
                4_322 => ENODEV,
                7_777 => ESRCH,
                n if foreign(n) => EEXIST,
                _ => 0,
            };
            let code = result.as_ref().err().map_or(0, |errno| errno.code);
            assert_eq!(code, expected, "change {n}: {result:?}");
        }
        let detail = &results[4_321].as_ref().unwrap_err().detail;
        assert_eq!(detail, "Invalid gateway address");
        let installed: Vec<OwnRoute> = (0..MANY)
            .filter(|n| !foreign(*n) && ![4_321, 4_322, 4_323, 7_777].contains(n))
            .map(route)
            .collect();
        assert!(ours(&kernel).await == installed, "other routes than the added ones");
    });
}

#[test]
fn a_cancelled_batch_leaves_no_answers_for_the_next() {
    with_uplink(async |kernel, up0| {
        let adds: Vec<Change> =
            (0..MANY).map(|n| Change::Add(via(&nth_destination(n), &["2001:db8::2"], up0))).collect();
        // Polled once: some changes are sent, and not all answers are read before the drop.
        let mut apply = Box::pin(kernel.apply(&adds));
        assert!(futures::poll!(&mut apply).is_pending(), "10,000 changes in one poll");
        drop(apply);

        let begun = ours(&kernel).await.len();
        assert!(begun > 0 && begun < adds.len(), "{begun} of {} were added", adds.len());
        // Each of these fails; a stale acknowledgement would make one succeed.
        let again = kernel.apply(&adds[..100]).await.unwrap();
        assert!(
            again.iter().all(|result| result.as_ref().is_err_and(|errno| errno.code == EEXIST)),
            "{again:?}"
        );
        done(&kernel, &[Change::Delete(adds[0].route().clone())]).await;
    });
}
