//! The embedded store's file is damaged or removed, and the operator applies the fix in the error message.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use sextant_tests::{
    Controller, ControllerOptions, Lab, RouteMonitor, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::{held, settle};

const RESERVED: &str = "2001:db8:8000:7777::/64";

/// Three hosts with agents, and backups every second.
struct Bed {
    cluster: Cluster,
    store: PathBuf,
}

fn options() -> ControllerOptions {
    let args = ["--backup-every", "1s", "--backup-keep", "3"].map(str::to_owned).to_vec();
    ControllerOptions { args, ..ControllerOptions::default() }
}

impl Bed {
    fn start(test: &str) -> Self {
        let mut cluster = Cluster::without_agents(test, 4, GUIDE);
        cluster.controller = None;
        cluster.start_controller(options());
        (0..3).for_each(|index| cluster.start_agent(index));
        settle(&cluster, &["h1", "h2", "h3"]);
        cluster.sextant(&["reserve", RESERVED, "--reason", "kept"]);
        let store = cluster.lab.dir().join("controller-1");
        Self { cluster, store }
    }

    fn controller(&self) -> &Controller {
        self.cluster.controller.as_ref().unwrap()
    }

    fn last_backup(&self) -> u64 {
        self.cluster.lab.cli_json(&["status"]).unwrap()["backups"]["last_unix_ms"].as_u64().unwrap_or(0)
    }

    /// Waits until all that was acknowledged until now is in a backup.
    fn backed_up(&self) {
        let before = self.last_backup();
        poll("another backup", 20 * SECONDS, || {
            let now = self.last_backup();
            if now > before + 1000 { Ok(()) } else { Err(format!("{now}, before {before}")) }
        });
    }

    /// A node whose claim no backup has.
    fn h4_joins_after_the_backup(&mut self) {
        self.cluster.start_agent(3);
        settle(&self.cluster, &["h1", "h2", "h3", "h4"]);
    }

    /// Runs `sextant restore` of a message, whose file is quoted.
    fn restore_as_said(&self, printed: &str) {
        let file = printed.split("sextant restore \"").nth(1).and_then(|rest| rest.split('"').next());
        let file = file.unwrap_or_else(|| panic!("no `sextant restore` in: {printed}"));
        self.cluster.sextant(&["restore", file]);
    }

    /// All agents are ready with the prefixes they had, and all is there that was acknowledged before the backup.
    fn all_is_as_before(&self, before: &BTreeMap<String, String>) {
        settle(&self.cluster, &["h1", "h2", "h3", "h4"]);
        assert_eq!(held(&self.cluster), *before);
        let mut prefixes: Vec<_> = before.values().collect();
        prefixes.sort();
        prefixes.dedup();
        assert_eq!(prefixes.len(), 4, "no prefix twice: {before:?}");
        let reservations = self.cluster.sextant(&["reservations"]);
        assert!(reservations.contains(RESERVED), "{reservations}");
        assert_eq!(
            self.cluster.lab.cli_json(&["recover", "--finish"]).unwrap()["silent"],
            serde_json::json!([])
        );
        settle(&self.cluster, &["h1", "h2", "h3", "h4"]);
        self.cluster.expect_full_mesh();
        self.backed_up();
    }
}

/// Overwrites most pages; the header stays.
fn corrupt(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    (1..pages).for_each(|page| file.write_all_at(&[0xa5; 512], page * 4096).unwrap());
}

/// The commands between these words of a message, run by a shell.
fn run_as_said(printed: &str, from: &str, to: &str) {
    let command = printed.split(from).nth(1).and_then(|rest| rest.split(to).next());
    let command = command.unwrap_or_else(|| panic!("nothing between {from} and {to} in: {printed}"));
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

#[test]
fn i2_a_damaged_store_is_refused_and_restored_with_the_command_in_the_error() {
    let mut bed = Bed::start("damaged store");
    bed.backed_up();
    // What no backup has: the controller is stopped for backups, and started without.
    let before = {
        bed.cluster.controller = None;
        bed.cluster.start_controller(ControllerOptions::default());
        bed.h4_joins_after_the_backup();
        held(&bed.cluster)
    };
    let monitors: Vec<_> = bed.cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    // Under the running controller, which is then killed.
    corrupt(&bed.store);
    bed.cluster.controller.take().unwrap().process.kill().unwrap();

    let refused = bed.cluster.lab.controller(options()).unwrap();
    assert_eq!(refused.process.wait(20 * SECONDS).unwrap().code(), Some(1), "{}", refused.process.log());
    let printed = refused.process.log();
    drop(refused);
    assert!(
        printed.contains("is damaged: ") && printed.contains("the newest backup was taken at 2"),
        "{printed}"
    );
    run_as_said(&printed, "to go back to it: ", ", start the controller");
    assert!(!bed.store.exists());
    bed.cluster.start_controller(options());
    bed.restore_as_said(&printed);
    bed.all_is_as_before(&before);
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
}

/// A new pool would be in the way of the restore.
#[test]
fn an_empty_store_beside_backups_of_an_earlier_one_asks_for_the_restore() {
    let lab = Lab::new("moved away").unwrap();
    let mut controller = lab.controller(options()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    lab.cli(&["pool", "add", "main", GUIDE.prefix, "--host-len", "64"]).unwrap().succeeded().unwrap();
    poll("a backup with the pool", 20 * SECONDS, || {
        let status = lab.cli_json(&["status"]).map_err(|error| error.to_string())?;
        let (added, taken) = (&status["pools"][0], status["backups"]["last_unix_ms"].as_u64().unwrap_or(0));
        let events = lab.cli_json(&["events"]).map_err(|error| error.to_string())?;
        let added_at = events.as_array().into_iter().flatten().filter_map(|it| it["unix_ms"].as_u64()).max();
        if added_at.is_some_and(|at| taken > at) { Ok(()) } else { Err(format!("{added}, {taken}")) }
    });
    controller.process.terminate(5 * SECONDS).unwrap();
    let store = lab.dir().join("controller-1");
    fs::rename(&store, store.with_extension("damaged")).unwrap();
    controller = lab.controller(options()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    let printed = poll("status names the restore", 10 * SECONDS, || {
        let text = lab.cli(&["status"]).map_err(|error| error.to_string())?.stdout;
        if text.contains("to return to that store: sextant restore ") { Ok(text) } else { Err(text) }
    });
    let file = printed.split("sextant restore \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    lab.cli(&["restore", file]).unwrap().succeeded().unwrap();
    assert_eq!(lab.cli_json(&["pool", "list"]).unwrap()[0]["name"], "main");
    drop(controller);
}

#[test]
fn i2_a_removed_store_is_reported_with_its_backup_and_restored_from_it() {
    let mut bed = Bed::start("removed store");
    bed.h4_joins_after_the_backup();
    bed.backed_up();
    let before = held(&bed.cluster);
    let monitors: Vec<_> = bed.cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    fs::remove_file(&bed.store).unwrap();
    let reserve = ["reserve", "2001:db8:8000:77::/64"];
    let refused = bed.cluster.lab.cli(&reserve).unwrap();
    assert_eq!(refused.code, 5, "{refused:?}");
    let printed = refused.stderr;
    assert!(printed.contains("the file of the open store was removed or moved"), "{printed}");

    // First the way for as long as the controller runs, which loses nothing: its own files are the operator's choice.
    let by_hand = bed.cluster.lab.dir().join("by-hand.backup").display().to_string();
    bed.cluster.sextant(&["backup", &by_hand]);
    // Then the one for a controller that has ended.
    bed.controller().process.kill().unwrap();
    bed.cluster.controller = None;
    bed.cluster.start_controller(options());
    let warned = bed.controller().process.log();
    assert!(warned.contains("new store created, but backups of an earlier one exist"), "{warned}");
    bed.restore_as_said(&printed);
    bed.all_is_as_before(&before);
    let again = bed.cluster.lab.cli(&["restore", &by_hand]).unwrap();
    assert_eq!(again.code, 0, "it fits: {again:?}");
    settle(&bed.cluster, &["h1", "h2", "h3", "h4"]);
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
}

#[test]
fn backups_that_fail_are_shown_until_they_work_again() {
    let bed = Bed::start("failing backups");
    let directory = bed.cluster.lab.dir().join("controller-1.backups");
    (0..4).for_each(|_| bed.backed_up());
    let kept = fs::read_dir(&directory).unwrap().count();
    assert!((3..=4).contains(&kept), "three, and one more until it is deleted: {kept}");
    let away = directory.with_extension("away");
    fs::rename(&directory, &away).unwrap();
    let status_says = |well: bool, words: &str| {
        poll(&format!("status says {words:?}"), 20 * SECONDS, || {
            let status = bed.cluster.sextant(&["status"]);
            let (_, metrics) = bed.controller().http("/metrics")?;
            let failing = format!("sextant_controller_backup_failing {}\n", u8::from(!well));
            let right = status.starts_with("All is well: ") == well && status.contains(words);
            anyhow::ensure!(right && metrics.contains(&failing), "{status}\n{metrics}");
            anyhow::Ok(())
        });
    };
    status_says(false, "automatic backups fail: backup directory");
    fs::rename(&away, &directory).unwrap();
    status_says(true, ", last 0s ago");
    let log = bed.controller().process.log();
    assert_eq!(log.matches("automatic backup failed").count(), 1, "once per outage: {log}");
}
