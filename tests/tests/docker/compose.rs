//! Projects of Docker Compose, with the files of docs/docker.md.

use std::{fs, process::Command};

use sextant_tests::Docker;

use crate::bed::Bed;

/// A service in each project, on the project's default network.
const SERVICE: &str = "services:\n  web:\n    image: lab\n    command: sleep 100000\n";

/// Brings a project up or down, whose file has these networks.
fn compose(engine: &Docker, networks: &str, args: &[&str]) {
    let file = engine.socket().with_file_name("compose.yaml");
    fs::write(&file, format!("version: \"3.5\"\n{SERVICE}{networks}")).unwrap();
    let (socket, file) = (format!("unix://{}", engine.socket().display()), file.display().to_string());
    let done = Command::new("docker-compose")
        .args(["-H", &socket, "--project-name", "app", "--file", &file])
        .args(args)
        .output()
        .expect("docker-compose cannot be started; install docker-compose");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The project's container reaches one of another host, and is reached by it.
fn is_connected(bed: &Bed, web: &str, other: &str) {
    let (address, theirs) = (bed.engines[0].address(web).unwrap(), bed.engines[1].address(other).unwrap());
    bed.pings(0, web, &theirs);
    bed.pings(1, other, &address);
}

/// The name of the project's container, which depends on the version.
fn container(engine: &Docker) -> String {
    engine.run(&["ps", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}"]).unwrap()
}

#[test]
fn a_project_uses_the_network_that_the_agent_keeps() {
    let bed = Bed::start("docker compose", 2, &[]);
    bed.engines[1].container("other", &["--network", "sextant"]).unwrap();
    let networks = "networks:\n  default:\n    name: sextant\n    external: true\n";
    compose(&bed.engines[0], networks, &["up", "-d"]);
    is_connected(&bed, &container(&bed.engines[0]), "other");
    compose(&bed.engines[0], networks, &["down"]);
    bed.has_network(0);
    bed.status_is_silent();
}
