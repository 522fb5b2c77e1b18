//! Holds a lab until it is killed, or keeps it, or panics: for the lab's own tests, which check for leftovers.

use std::{io::Write, thread};

use anyhow::Context;
use sextant_tests::{Lab, MILLISECONDS, SECONDS, poll};

fn main() -> anyhow::Result<()> {
    let lab = Lab::new("held until killed")?;
    let host = lab.host("h1")?;
    host.make_bridge("2001:db8:1::/64".parse()?)?;
    let container = host.container("a")?;
    let process = container.spawn("sleeper", &["sleep", "1000"])?;
    // A process that ignores SIGTERM and leaves the session.
    let stubborn = host
        .spawn("stubborn", &["setsid", "sh", "-c", "trap '' TERM HUP INT; sleep 1000 & wait; sleep 1000"])?;
    match std::env::args().nth(1).as_deref() {
        Some("panic") => {
            let writer = host.spawn("writer", &["echo", "output of the writer"])?;
            host.ip("-6 route add unreachable 2001:db8:9::/48 proto 66")?;
            writer.wait(5 * SECONDS)?;
            poll("the expected state", 50 * MILLISECONDS, || Err::<(), _>("the actual state"));
        }
        Some("keep") => println!("{}", lab.keep()?),
        _ => {
            println!("{}", lab.id());
            std::io::stdout().flush().context("standard output")?;
            // park may return early: the end of a thread scope can leave a token.
            loop {
                thread::park();
            }
        }
    }
    drop((process, stubborn));
    Ok(())
}
