//! `sextant explain`: the use of an address.

use std::net::Ipv6Addr;

use serde_json::Value;

use crate::{
    answer::{Explained, Place},
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant explain`.
pub(crate) async fn explain(link: &mut Link, output: Output, address: Ipv6Addr) -> Result<(), Failure> {
    let explained = Explained::new(address, link.explain(address).await?)?;
    if explained.place == Place::Nowhere {
        let why = format!(
            "{address} is in no pool and no reservation, and belongs to no node; see `sextant pool list`"
        );
        return Err(Failure::NotFound(why));
    }
    show::print(output, &explained)
}

impl Show for Explained {
    fn text(&self, now_unix_ms: u64) -> String {
        text::explained(self, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::value(json::Explained::from(self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::sample;

    #[test]
    fn a_reserved_address_has_no_node() {
        let mut it = sample::explained();
        (it.place, it.node, it.routes) = (Place::Reserved, None, Vec::new());
        (it.reserved_for, it.freed) = ("host7".into(), Some(("host2".into(), sample::NOW)));
        let value = it.json();
        assert_eq!((&value["place"], &value["node"]), (&json!("reserved"), &Value::Null));
        assert_eq!((&value["reserved_for"], &value["freed_by"]), (&json!("host7"), &json!("host2")));
    }
}
