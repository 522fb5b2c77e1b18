//! An uplink that is a VLAN's interface. Not every kernel has VLANs, so a virtual machine with Debian's kernel runs the tests of
//! [`guest`]; it has no network but that of the lab in it.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod archive;
mod guest;
mod image;
mod kernel;
mod machine;

use std::time::Duration;

/// Without virtualisation by the processor, everything takes ten times as long.
const LIMIT: Duration = Duration::from_secs(540);

#[test]
#[ignore = "slow: boots a virtual machine"]
fn the_tests_of_a_vlan_pass_in_a_virtual_machine() {
    let kernel = kernel::unpacked().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, image::of(&kernel).unwrap()).unwrap();
    let console = machine::run(&kernel.program, &image, LIMIT).unwrap();
    let passed = format!("test result: ok. {} passed", guest::TESTS);
    assert!(console.contains(&passed), "{console}");
    assert!(!console.contains("not removed"), "{console}");
    println!("{console}");
}
