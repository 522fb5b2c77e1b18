//! The containers of a node, for people.

use sextant_proto::Containers;

use super::table;

/// The containers, one address in each line.
pub(crate) fn containers(found: &Containers) -> String {
    if found.engine.is_empty() {
        return "its agent watches no container engine, or that has not answered yet: see `sextant status`, or set [docker] mode in \
                agent.toml (`none` only watches)\n"
            .to_owned();
    }
    let rows: Vec<_> = found
        .containers
        .iter()
        .flat_map(|container| {
            let row = |(network, addr): &(String, std::net::Ipv6Addr)| {
                [container.name.clone(), network.clone(), addr.to_string()]
            };
            container.addresses.iter().map(row)
        })
        .collect();
    if rows.is_empty() {
        return format!("no running container of {} has an IPv6 address\n", found.engine);
    }
    let more = match found.more {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("{}{more}", table::table(["CONTAINER", "NETWORK", "ADDRESS"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn each_address_has_a_line() {
        assert_eq!(
            containers(&sample::containers()),
            "CONTAINER  NETWORK  ADDRESS\n\
             db         private  fd00::3\n\
             db         sextant  2001:db8:1:1::6\n\
             web        sextant  2001:db8:1:1::5\n\
             and 2 more\n"
        );
        let none = Containers { containers: vec![], ..sample::containers() };
        assert_eq!(containers(&none), "no running container of Docker 20.10.24 has an IPv6 address\n");
        assert!(containers(&Containers::default()).contains("set [docker] mode"));
    }
}
