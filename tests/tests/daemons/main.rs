//! Daemons and commands as processes: their streams, signals, and interfaces for monitoring.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod closed_pipes;
mod log_readers;
mod metrics;
mod old_kernels;
mod ports;
mod reminders;
mod signals;
