//! Kernels without optional features of netlink. A preloaded `setsockopt` stands for them.

use std::{fs, process::Command};

use sextant_tests::{
    AgentOptions, Lab, SECONDS,
    cluster::{Cluster, GUIDE},
};

/// NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK.
const OPTIONS: [u32; 3] = [10, 11, 12];

/// A library that refuses these options of netlink sockets.
fn refusing(lab: &Lab, options: &[u32]) -> String {
    let refused: Vec<_> = options.iter().map(|option| format!("name == {option}")).collect();
    let source = format!(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
         int setsockopt(int fd, int level, int name, const void *value, unsigned len) {{\n\
         if (level == 270 && ({})) {{ errno = ENOPROTOOPT; return -1; }}\n\
         return syscall(SYS_setsockopt, fd, level, name, value, len); }}\n",
        refused.join(" || ")
    );
    let (file, library) = (lab.dir().join("old.c"), lab.dir().join("old.so"));
    fs::write(&file, source).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &file]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    library.display().to_string()
}

/// The first host's agent sets up its host, heals, and reports what the kernel refuses.
fn works_without(test: &str, options: &[u32]) {
    let mut cluster = Cluster::without_agents(test, 2, GUIDE);
    let environment = vec![("LD_PRELOAD".to_owned(), refusing(&cluster.lab, options))];
    cluster.start_agent_with(0, AgentOptions { environment, ..AgentOptions::default() });
    cluster.start_agent(1);
    cluster.settle();
    let line = cluster.agents[0].process.wait_for_line("kernel without a netlink option", SECONDS).unwrap();
    assert!(line.text.contains("NETLINK_"), "{line:?}");
    let host = &cluster.hosts[0];
    host.ip("-6 route add 2001:db8:77::/48 via 2001:db8::2 dev eth0 proto static table 77").unwrap();
    host.ip("-6 route flush proto 66").unwrap();
    cluster.expect_full_mesh();
}

#[test]
fn an_agent_works_on_a_kernel_without_strict_checks_of_dumps() {
    works_without("before 4.20", &OPTIONS[2..]);
}

#[test]
fn an_agent_works_on_a_kernel_without_extended_acknowledgements() {
    works_without("before 4.12", &OPTIONS[1..]);
}

#[test]
fn an_agent_works_on_a_kernel_without_any_optional_feature_of_netlink() {
    works_without("before 4.3", &OPTIONS);
}
