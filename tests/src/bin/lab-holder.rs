//! Holds a lab until it is killed, or keeps it, or panics: for the lab's own tests, which look at what is left.

use std::{io::Write, thread};

use anyhow::Context;
use sextant_tests::{Lab, MILLISECONDS, SECONDS, poll};

fn main() -> anyhow::Result<()> {
    let lab = Lab::new("held until killed")?;
    let host = lab.host("h1")?;
    host.make_bridge("2001:db8:1::/64".parse()?)?;
    let container = host.container("a")?;
    let process = container.spawn("sleeper", &["sleep", "1000"])?;
    // One that ignores polite signals and leaves the session.
    let stubborn = host
        .spawn("stubborn", &["setsid", "sh", "-c", "trap '' TERM HUP INT; sleep 1000 & wait; sleep 1000"])?;
    match std::env::args().nth(1).as_deref() {
        Some("panic") => {
            let talker = host.spawn("talker", &["echo", "words of the talker"])?;
            host.ip("-6 route add unreachable 2001:db8:9::/48 proto 66")?;
            talker.wait(5 * SECONDS)?;
            poll("the moon", 50 * MILLISECONDS, || Err::<(), _>("the sun"));
        }
        Some("keep") => println!("{}", lab.keep()?),
        _ => {
            println!("{}", lab.id());
            std::io::stdout().flush().context("standard output")?;
            // More than once: a scope's end may leave a token behind.
            loop {
                thread::park();
            }
        }
    }
    drop((process, stubborn));
    Ok(())
}
