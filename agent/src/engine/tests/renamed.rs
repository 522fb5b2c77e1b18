//! A bridge that another process renames.

use super::*;

/// The names of the bridges with addresses of the containers.
async fn bridges(kernel: &FakeKernel) -> Vec<(u32, String)> {
    let links = kernel.links().await.unwrap();
    links.into_iter().filter(|link| link.bridge).map(|link| (link.index, link.name)).collect()
}

async fn started() -> (Fixture, u32) {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    let [(bridge, _)] = bridges(&it.kernel).await[..] else { panic!("{:?}", bridges(&it.kernel).await) };
    it.kernel.take_writes();
    (it, bridge)
}

#[tokio::test(start_paused = true)]
async fn i13_the_agents_bridge_gets_its_name_back() {
    let (it, bridge) = started().await;
    it.kernel.foreign_rename(bridge, "brx");
    tokio::time::sleep(SOON * 5).await;
    assert_eq!(bridges(&it.kernel).await, [(bridge, "docker0".to_owned())]);
    assert_eq!(it.kernel.writes(), [Write::RenameLink(bridge, "docker0".to_owned())], "nothing else");
    let problems = it.problems.watch().borrow().problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        problems[0].saw,
        "another process changed name of bridge docker0: brx; the agent restored it: docker0"
    );
}

/// A second bridge would take the packets of the containers, which are on the first one.
#[tokio::test(start_paused = true)]
async fn no_second_bridge_is_created_while_another_one_has_its_prefix() {
    let (it, bridge) = started().await;
    it.kernel.refuse_renames();
    it.kernel.change_link(bridge, |link| link.name = "brx".to_owned());
    tokio::time::sleep(SOON * 30).await;
    assert_eq!(bridges(&it.kernel).await, [(bridge, "brx".to_owned())]);
    let problems = it.problems.watch().borrow().problems();
    assert!(
        problems.iter().any(|it| it.saw.starts_with("bridge docker0 does not exist, and interface brx has")),
        "{problems:?}"
    );
    assert!(it.report.borrow().announcement.is_some(), "its containers are still reached");
}
