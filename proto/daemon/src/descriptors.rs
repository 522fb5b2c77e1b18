//! The limit of open files and sockets of the process.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The highest requested limit: a table of descriptors takes memory.
const ENOUGH: u64 = 1 << 20;
/// The assumed limit if the kernel does not report one (systemd's default).
const USUAL: u64 = 1024;

/// Raises the soft limit of open files to the hard one; returns the resulting limit.
pub fn raise_descriptor_limit() -> u64 {
    // A filter of system calls may forbid it; then the limit stays as it is.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return from_proc().unwrap_or(USUAL) };
    let wanted = hard.min(ENOUGH);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(soft, hard, %error, "cannot raise the limit of open files; set LimitNOFILE= in the unit");
            soft
        }
    }
}

/// The soft limit in /proc.
fn from_proc() -> Option<u64> {
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
        assert!(from_proc().is_some());
    }
}
