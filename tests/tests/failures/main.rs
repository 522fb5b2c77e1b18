//! Nothing short of a dead host stops the traffic: real etcd, several controllers, and what fails at night.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod drawn;
mod embedded;
mod etcd;
mod killed;
mod outages;
mod restored;
mod store;
mod watched;
mod wiped;
