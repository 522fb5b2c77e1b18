//! What the engine answers, in this package's terms. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
};

use bollard::models::{self, IpamConfig};
use sextant_proto::{Prefix, shown_text};

use crate::{
    firewall::policy::{Port, Protocol},
    live::{Event, Running},
    network::{Container, Network, Published, Subnet},
    waiting::Endpoint,
};

/// The container of an event, or that it is of a network.
pub(super) fn event(message: &models::EventMessage) -> Option<Event> {
    let actor = message.actor.as_ref()?;
    let attribute =
        |name| actor.attributes.as_ref().and_then(|all: &HashMap<String, String>| all.get(name)).cloned();
    let id = match message.typ? {
        models::EventMessageTypeEnum::CONTAINER => actor.id.clone(),
        _ => attribute("container"),
    };
    Some(id.map_or(Event::Network, Event::Container))
}

pub(super) fn network(network: models::Network) -> Network {
    let ipam = network.ipam.unwrap_or_default();
    let configs = ipam.config.unwrap_or_default();
    let subnets = configs.iter().cloned().filter_map(subnet).collect();
    let prefix = |config: IpamConfig| {
        let gateway = config.gateway.and_then(|gateway| gateway.split('/').next()?.parse().ok());
        Some((config.subnet?.parse::<Prefix>().ok()?, gateway))
    };
    Network {
        id: network.id.unwrap_or_default(),
        name: shown(&network.name.unwrap_or_default()),
        driver: network.driver.unwrap_or_default(),
        ipv6: network.enable_ipv6.unwrap_or_default(),
        internal: network.internal.unwrap_or_default(),
        prefixes: configs.into_iter().filter_map(prefix).collect(),
        ipam: ipam.driver.unwrap_or_default(),
        subnets,
        options: map(network.options),
        labels: map(network.labels),
    }
}

/// An engine takes any characters for the name of a network.
fn shown(name: &str) -> String {
    shown_text(name.as_bytes())
}

fn subnet(config: IpamConfig) -> Option<Subnet> {
    let reserved = config.auxiliary_addresses.unwrap_or_default();
    Some(Subnet {
        subnet: config.subnet?,
        gateway: config.gateway.and_then(|gateway| address(&gateway)),
        reserved: reserved.values().filter_map(|it| address(it)).collect(),
    })
}

/// The address of a text with or without a length.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

fn map(pairs: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    pairs.unwrap_or_default().into_iter().collect()
}

pub(super) fn container(summary: models::ContainerSummary) -> Container {
    let names = summary.names.unwrap_or_default();
    // Links of other containers are `/OTHER/ALIAS`.
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    Container { name: own.unwrap_or_default().to_owned(), id: summary.id.unwrap_or_default() }
}

pub(super) fn endpoint(settings: models::EndpointSettings) -> Endpoint {
    Endpoint {
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.unwrap_or_default(),
        options: map(settings.driver_opts),
        gateway_priority: settings.gw_priority.filter(|priority| *priority != 0),
    }
}

/// What a container is connected with.
pub(super) fn endpoint_settings(endpoint: &Endpoint) -> models::EndpointSettings {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let options = endpoint.options.clone().into_iter().collect::<HashMap<_, _>>();
    models::EndpointSettings {
        aliases: some(&endpoint.aliases),
        links: some(&endpoint.links),
        driver_opts: Some(options).filter(|options| !options.is_empty()),
        gw_priority: endpoint.gateway_priority,
        ..models::EndpointSettings::default()
    }
}

pub(super) fn running(summary: models::ContainerSummary) -> (String, Running) {
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut addresses: Vec<_> = networks
        .into_iter()
        .filter_map(|(network, endpoint)| {
            Some((shown(&network), endpoint.global_ipv6_address?.parse().ok()?))
        })
        .collect();
    addresses.sort();
    let id = summary.id.clone().unwrap_or_default();
    let Container { name, .. } = container(models::ContainerSummary { network_settings: None, ..summary });
    (id, Running { name, addresses })
}

pub(super) fn published_at(summary: &models::ContainerSummary, prefixes: &[Prefix]) -> Vec<Port> {
    let networks = summary.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten());
    let addresses = networks.filter_map(|(_, endpoint)| endpoint.global_ipv6_address.as_ref()?.parse().ok());
    let inside = addresses.filter(|address| prefixes.iter().any(|prefix| prefix.contains(*address)));
    inside.flat_map(|address| ports_at(address, summary.ports.clone().unwrap_or_default())).collect()
}

pub(super) fn at_host(summary: models::ContainerSummary, prefixes: &[Prefix]) -> Vec<Published> {
    let of_host =
        |port: &models::PortSummary| port.ip.as_ref().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    let ports: Vec<_> = summary.ports.iter().flatten().filter(|port| of_host(port)).cloned().collect();
    let of = |one: models::PortSummary| {
        let host_port = one.public_port.unwrap_or_default();
        let at =
            published_at(&models::ContainerSummary { ports: Some(vec![one]), ..summary.clone() }, prefixes);
        at.into_iter().map(move |port| (port, host_port)).collect::<Vec<_>>()
    };
    let found: Vec<_> = ports.into_iter().flat_map(of).collect();
    let container = container(summary).name;
    found
        .into_iter()
        .map(|(port, host_port)| Published { container: container.clone(), port, host_port })
        .collect()
}

fn ports_at(address: Ipv6Addr, ports: Vec<models::PortSummary>) -> Vec<Port> {
    let published = ports.into_iter().filter(|port| port.public_port.is_some());
    let port = |port: models::PortSummary| {
        let protocol = match port.typ? {
            models::PortSummaryTypeEnum::TCP => Protocol::Tcp,
            models::PortSummaryTypeEnum::UDP => Protocol::Udp,
            models::PortSummaryTypeEnum::SCTP => Protocol::Sctp,
            models::PortSummaryTypeEnum::EMPTY => return None,
        };
        Some(Port { address, protocol, port: port.private_port })
    };
    published.filter_map(port).collect()
}
