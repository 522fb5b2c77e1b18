//! Whether the store is still the one that agents and controllers know (DESIGN I1, I6).
//!
//! An etcd snapshot that is restored takes the store back to an earlier revision, under the same incarnation: grants and
//! ends since then are gone, and revisions are used a second time. So each grant and each end puts a random mark
//! ([`History`]), and each transaction of the claim logic guards the last mark that its controller knows. A store that
//! was set back is noticed in three ways: a controller sees its revision fall, or misses a mark ([`course`]); or agents doubt it
//! ([`crate::doubts`]). Then it gets another incarnation ([`fork()`]): agents keep their routes and register their claims, and
//! of two holders of one prefix the later one keeps it.

mod fork;
mod history;

use sextant_proto::Incarnation;

use crate::records::Meta;

pub use fork::{Course, course, fork};
pub use history::{History, KEPT, Known};

/// Why a node that knows this incarnation comes from a store that this one does not know, and was perhaps taken back from:
/// while its recovery window is open it waits for such nodes anyway.
pub fn foreign(meta: &Meta, incarnation: Incarnation) -> Option<String> {
    let foreign = !meta.recovering && !meta.descends_from(incarnation);
    foreign.then(|| format!("it knows the store as incarnation {incarnation}, which this store does not"))
}
