//! Only a dead host stops traffic: failures of a real etcd, of controllers and of agents.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod embedded;
mod etcd;
mod killed;
mod late_ends;
mod outages;
mod privileges;
mod random;
mod restored;
mod store;
mod store_proxy;
mod watched;
mod wiped;
