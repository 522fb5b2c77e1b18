//! How many files and sockets the process may have open.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many as are asked for at most: a table of descriptors takes memory.
const ENOUGH: u64 = 1 << 20;
/// What is taken where the kernel does not say (systemd's default).
const USUAL: u64 = 1024;

/// Raises the soft limit of open files to the hard one; the limit that holds then.
pub fn raise_descriptor_limit() -> u64 {
    // A filter of system calls may keep it from us; then the limit is as whoever set the filter wants it.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return stated().unwrap_or(USUAL) };
    let wanted = hard.min(ENOUGH);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(soft, hard, %error, "limit of open files cannot be raised; set LimitNOFILE= in the unit");
            soft
        }
    }
}

/// The soft limit by /proc.
fn stated() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    soft_limit(&limits)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit Soft Limit Hard Limit Units\n\
                      Max processes             63448                63448                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit("Max processes 1 2 processes"), None);
        assert!(stated().is_some());
    }
}
