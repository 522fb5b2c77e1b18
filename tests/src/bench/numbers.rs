//! Percentiles, and the resource usage of a process.

use std::{fs, time::Duration};

use anyhow::Context;

/// The tick of /proc/PID/stat (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// Measured times.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The percentile by nearest rank; zero without measurements.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// The resources that a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// CPU time, user and system.
    pub(super) cpu: Duration,
    /// The same of the children that it has waited for.
    pub(super) children: Duration,
    /// Resident memory, in octets.
    pub(super) rss: u64,
}

impl Usage {
    /// Reads /proc (proc_pid_stat(5), fields 14 to 17; proc_pid_status(5), VmRSS).
    ///
    /// # Errors
    /// If the process is gone.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("stat")?;
        let ticks = |skipped| {
            let two = fields.split(' ').skip(skipped).take(2);
            two.map(str::parse::<u32>).sum::<Result<u32, _>>()
        };
        let (own, children) = (ticks(11)?, ticks(13)?);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = rss.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu: TICK * own, children: TICK * children, rss: kib << 10 })
    }
}

pub(super) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.percentile(50), Duration::ZERO);
        (1..=200).rev().for_each(|number| times.push(Duration::from_millis(number)));
        assert_eq!(times.percentile(50), Duration::from_millis(100));
        assert_eq!(times.percentile(99), Duration::from_millis(198));
        assert_eq!(times.percentile(100), Duration::from_millis(200));
    }

    #[test]
    fn usage_of_this_process_is_plausible() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss > 100 << 10 && usage.rss < 4 << 30, "{usage:?}");
    }
}
