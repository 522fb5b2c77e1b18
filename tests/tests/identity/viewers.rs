//! Viewers read everything but node ids and epochs.

use crate::bed::Bed;

const COMMANDS: [&[&str]; 11] = [
    &["status"],
    &["node", "list"],
    &["node", "show", "h1"],
    &["node", "show", "h1", "--containers"],
    &["pool", "list"],
    &["pool", "show", "main"],
    &["reservations"],
    &["route", "list"],
    &["bgp"],
    &["explain", "2001:db8:8000::1"],
    &["events"],
];

#[test]
fn a_viewer_reads_everything_but_node_ids_and_epochs() {
    let mut bed = Bed::start("viewers", 1);
    let files = bed.member("node/h1", None);
    bed.start_agent(0, &files);
    let node = bed.wait_ready("h1");
    let id = node["node_id"].as_str().unwrap().to_owned();
    let epoch = node["epoch"]["revision"].as_u64().unwrap();
    assert!(epoch > 0 && node["claims"][0]["epoch"]["revision"] == epoch, "an admin sees it: {node}");
    let viewer = bed.member("admin/vic", None);
    let operator = bed.member("admin/olga", Some("operator"));
    for command in COMMANDS {
        for output in [&[][..], &["-o", "json"]] {
            let command = [output, command].concat();
            let shown = bed.cli(&viewer, &command);
            assert!(!shown.stdout.contains(&id) && !shown.stderr.contains(&id), "{command:?}: {shown:?}");
            let shown = shown.succeeded().unwrap().stdout;
            let epoch_of_text = format!("{epoch}@");
            assert!(!shown.contains(&epoch_of_text), "{command:?}: {shown}");
        }
    }
    let list = bed.cli(&viewer, &["-o", "json", "node", "list"]).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert!(list[0]["node_id"].is_null() && list[0]["epoch"].is_null(), "{list}");
    assert!(list[0]["claims"][0]["epoch"].is_null() && list[0]["name"] == "h1", "{list}");
    let shown = bed.cli(&operator, &["node", "show", "h1"]).succeeded().unwrap().stdout;
    assert!(shown.contains(&id) && shown.contains(&format!("{epoch}@")), "{shown}");
}
