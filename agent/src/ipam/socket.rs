//! The driver's socket: systemd's, or else one at the path of the settings.

use std::{path::Path, time::Duration};

use sextant_ipam::{keeper::Handle, server::Socket};

use crate::problems::{Component, Finding, Problems};

/// How soon a socket that cannot be served is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves it for good.
pub(super) async fn serve(path: &Path, handle: &Handle, problems: &Problems) {
    let mut inherited = Socket::inherited();
    loop {
        let socket = match inherited.take() {
            Some(socket) => Ok(socket),
            None => Socket::listen(path),
        };
        let error = match socket {
            Ok(socket) => {
                problems.report(Component::Ipam, Vec::new());
                socket.serve(handle.clone()).await.err().map_or_else(String::new, |error| error.to_string())
            }
            Err(error) => error.to_string(),
        };
        problems.report(Component::Ipam, vec![finding(path, &error)]);
        tokio::time::sleep(AGAIN).await;
    }
}

fn finding(path: &Path, error: &str) -> Finding {
    Finding::new(
        "docker-ipam-socket",
        format!("the socket {} of Docker's IPAM driver cannot be served: {error}", path.display()),
        "let systemd listen there (`sextant-agent docker setup --mode ipam --restart` as root); or set [docker] ipam-socket in \
         agent.toml to a path in a directory that the agent may write; it is tried again",
    )
}
