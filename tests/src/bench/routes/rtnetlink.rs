//! Routes through the rtnetlink library: one request, one acknowledgement, then the next.

use std::net::Ipv6Addr;

use netlink_packet_route::route::{RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use sextant_proto::ROUTE_PROTOCOL;

use super::{
    Measured,
    bare::{GATEWAYS, MAIN, METRIC, destination},
    child::{Stopwatch, uplink},
};

/// Adds, replaces and deletes.
pub(super) fn measure(routes: u32) -> anyhow::Result<Measured> {
    let link = uplink()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measured = Measured::default();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        for (step, gateway) in [("add", GATEWAYS[0]), ("replace", GATEWAYS[1]), ("delete", GATEWAYS[1])] {
            let watch = Stopwatch::start()?;
            for n in 0..routes {
                request(&handle, step, message(n, link, gateway)).await?;
            }
            measured.steps.insert(step.to_owned(), watch.stop()?);
        }
        connection.abort();
        Ok(measured)
    })
}

async fn request(handle: &Handle, step: &str, message: RouteMessageBuilder<Ipv6Addr>) -> anyhow::Result<()> {
    let message = message.build();
    match step {
        "add" => handle.route().add(message).execute().await?,
        "replace" => handle.route().add(message).replace().execute().await?,
        _ => handle.route().del(message).execute().await?,
    }
    Ok(())
}

fn message(n: u32, link: u32, gateway: Ipv6Addr) -> RouteMessageBuilder<Ipv6Addr> {
    let destination = destination(n);
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(destination.addr(), destination.len())
        .gateway(gateway)
        .output_interface(link)
        .table_id(MAIN)
        .priority(METRIC)
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL))
        .kind(RouteType::Unicast)
}
