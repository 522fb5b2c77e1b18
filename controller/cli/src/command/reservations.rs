//! `sextant reserve`, `unreserve` and `reservations`.

use serde_json::Value;
use sextant_proto::{Prefix, Revision};

use crate::{
    answer::Reservation,
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

pub(crate) async fn reserve(
    link: &mut Link,
    output: Output,
    prefix: Prefix,
    node: String,
    reason: String,
) -> Result<(), Failure> {
    let revision = link.reserve(prefix, &node, &reason).await?;
    show::print(output, &Done { prefix, revision, what: Reserved::For(node) })
}

pub(crate) async fn unreserve(link: &mut Link, output: Output, prefix: Prefix) -> Result<(), Failure> {
    let revision = link.unreserve(prefix).await?;
    show::print(output, &Done { prefix, revision, what: Reserved::NoLonger })
}

pub(crate) async fn list(link: &mut Link, output: Output) -> Result<(), Failure> {
    show::print(output, &Reservations(link.reservations().await?))
}

enum Reserved {
    For(String),
    NoLonger,
}

struct Done {
    prefix: Prefix,
    revision: Revision,
    what: Reserved,
}

struct Reservations(Vec<Reservation>);

impl Show for Done {
    fn text(&self, _now_unix_ms: u64) -> String {
        match &self.what {
            Reserved::For(node) if node.is_empty() => format!("{} reserved: no node gets it\n", self.prefix),
            Reserved::For(node) => {
                format!(
                    "{} reserved for {node}: the node gets this prefix with its next claim\n",
                    self.prefix
                )
            }
            Reserved::NoLonger => format!("{} no longer reserved\n", self.prefix),
        }
    }

    fn json(&self) -> Value {
        json::value(json::ReservationChanged { prefix: self.prefix, revision: self.revision })
    }
}

impl Show for Reservations {
    fn text(&self, now_unix_ms: u64) -> String {
        text::reservation_list(&self.0, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::list(self.0.iter().map(json::Reservation::from))
    }
}
