//! Docker's protocol for IPAM drivers: requests and answers as JSON (moby, libnetwork/docs/ipam.md). Pure.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use serde_json::{Value, json};
use sextant_proto::{PoolName, quoted};

use crate::{leases::PoolRequest, subnet::Subnet};

/// The content type of answers.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// The option with the length of an IPv6 subnet: `docker network create --ipam-opt sextant.length=96`.
const LENGTH: &str = "sextant.length";
/// The option with the pool that an IPv6 subnet is of: `--ipam-opt sextant.pool=ula`.
const POOL: &str = "sextant.pool";
/// The options of this driver. Others are the engine's.
const OPTIONS: &str = "sextant.";
/// The option with the use of an address.
const ADDRESS_TYPE: &str = "RequestAddressType";
/// The use as a gateway.
const GATEWAY: &str = "com.docker.network.gateway";

/// A request of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The kinds of plugin behind the socket.
    Activate,
    /// What the driver needs.
    Capabilities,
    /// The names of its address spaces.
    AddressSpaces,
    /// A request about leases.
    Lease(LeaseRequest),
}

/// A request about leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRequest {
    /// A subnet for a network.
    Pool(PoolRequest),
    /// The subnet with this id is not needed any more.
    ReleasePool(String),
    /// An address of the subnet with this id.
    Address {
        /// The id.
        pool: String,
        /// The address, if a certain one is wanted.
        address: Option<IpAddr>,
        /// It is the gateway's.
        gateway: bool,
    },
    /// An address is not needed any more.
    ReleaseAddress {
        /// The id of its subnet.
        pool: String,
        /// The address.
        address: IpAddr,
    },
}

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The path is unknown.
    #[error("{0} is no request of an IPAM driver that this version knows")]
    Path(String),
    /// The body is no such request.
    #[error("{path}: {problem}")]
    Body {
        /// The path.
        path: String,
        /// The problem.
        problem: String,
    },
    /// An option is unknown or invalid.
    #[error("--ipam-opt {option}={value}: {fix}")]
    Option {
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What is known.
        fix: &'static str,
    },
}

/// The fields of all requests about leases.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(rename = "Pool")]
    pool: String,
    #[serde(rename = "SubPool")]
    sub_pool: String,
    #[serde(rename = "V6")]
    v6: bool,
    #[serde(rename = "PoolID")]
    pool_id: String,
    #[serde(rename = "Address")]
    address: String,
    #[serde(rename = "Options")]
    options: Option<BTreeMap<String, Value>>,
}

impl Request {
    /// The request with this path and body. The engine names no content type.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &str, body: &[u8]) -> Result<Self, Unreadable> {
        let lease = match path {
            "/Plugin.Activate" => return Ok(Self::Activate),
            "/IpamDriver.GetCapabilities" => return Ok(Self::Capabilities),
            "/IpamDriver.GetDefaultAddressSpaces" => return Ok(Self::AddressSpaces),
            "/IpamDriver.RequestPool" => Body::read(path, body)?.pool(path)?,
            "/IpamDriver.ReleasePool" => LeaseRequest::ReleasePool(Body::read(path, body)?.pool_id),
            "/IpamDriver.RequestAddress" => Body::read(path, body)?.address(path)?,
            "/IpamDriver.ReleaseAddress" => Body::read(path, body)?.release(path)?,
            _ => return Err(Unreadable::Path(quoted(path))),
        };
        Ok(Self::Lease(lease))
    }
}

impl Body {
    fn read(path: &str, body: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(body).map_err(|error| unreadable(path, &error))
    }

    fn pool(self, path: &str) -> Result<LeaseRequest, Unreadable> {
        let subnet = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<Subnet>().map(Some).map_err(|error| unreadable(path, &error)),
        };
        let (asked, range) = (subnet(&self.pool)?, subnet(&self.sub_pool)?);
        let options = self.options.unwrap_or_default();
        let (length, pool) = of_driver(&options)?;
        Ok(LeaseRequest::Pool(PoolRequest { ipv6: self.v6, subnet: asked, range, length, pool }))
    }

    fn address(self, path: &str) -> Result<LeaseRequest, Unreadable> {
        let options = self.options.unwrap_or_default();
        let gateway = options.get(ADDRESS_TYPE).and_then(Value::as_str) == Some(GATEWAY);
        let address = match &self.address[..] {
            "" => None,
            text => Some(parse(path, text)?),
        };
        Ok(LeaseRequest::Address { pool: self.pool_id, address, gateway })
    }

    fn release(self, path: &str) -> Result<LeaseRequest, Unreadable> {
        Ok(LeaseRequest::ReleaseAddress { pool: self.pool_id, address: parse(path, &self.address)? })
    }
}

fn parse(path: &str, address: &str) -> Result<IpAddr, Unreadable> {
    address.parse().map_err(|_| unreadable(path, &format!("{} is no address", quoted(address))))
}

fn unreadable(path: &str, problem: &dyn ToString) -> Unreadable {
    Unreadable::Body { path: path.to_owned(), problem: problem.to_string() }
}

/// The length and the pool of a subnet.
fn of_driver(options: &BTreeMap<String, Value>) -> Result<(Option<u8>, Option<PoolName>), Unreadable> {
    let (mut length, mut pool) = (None, None);
    for (option, value) in options.iter().filter(|(option, _)| is_drivers(option)) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let wrong = |fix| Unreadable::Option { option: quoted(option), value: quoted(&text), fix };
        match option.as_str() {
            LENGTH => {
                length = Some(text.parse().map_err(|_| wrong("give the length of an IPv6 subnet, e.g. 96"))?);
            }
            POOL => {
                let name =
                    text.parse().map_err(|_| wrong("give the name of a pool, as in `sextant pool list`"))?;
                pool = Some(name);
            }
            _ => return Err(wrong("is unknown; there are sextant.length and sextant.pool")),
        }
    }
    Ok((length, pool))
}

/// Whether an option is one of this driver, or is meant to be.
fn is_drivers(option: &str) -> bool {
    option.starts_with(OPTIONS)
        || [LENGTH, POOL].iter().any(|known| known.strip_prefix(OPTIONS) == Some(option))
}

/// The answers that never change. The engine need not repeat its requests when it starts: leases are stored.
pub fn fixed_answer(request: &Request) -> Option<Value> {
    match request {
        Request::Activate => Some(json!({ "Implements": ["IpamDriver"] })),
        Request::Capabilities => Some(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false })),
        Request::AddressSpaces => Some(json!({
            "LocalDefaultAddressSpace": "sextant-local",
            "GlobalDefaultAddressSpace": "sextant-global",
        })),
        Request::Lease(_) => None,
    }
}

/// The answer with a subnet.
pub fn pool_answer(id: &str, subnet: Subnet) -> Value {
    json!({ "PoolID": id, "Pool": subnet.to_string(), "Data": {} })
}

/// The answer with an address.
pub fn address_answer(address: IpAddr, subnet: Subnet) -> Value {
    json!({ "Address": format!("{address}/{}", subnet.len()), "Data": {} })
}

/// The answer to a release.
pub fn released_answer() -> Value {
    json!({})
}

/// The answer to a request that is refused.
pub fn refused_answer(error: &dyn ToString) -> Value {
    json!({ "Error": error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(path: &str, body: &str) -> LeaseRequest {
        match Request::read(&format!("/IpamDriver.{path}"), body.as_bytes()) {
            Ok(Request::Lease(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// As Docker 20.10.24 sends them.
    #[test]
    fn requests_of_an_engine_are_read() {
        let body = r#"{"AddressSpace":"sextant-local","Pool":"","SubPool":"","Options":{"sextant.length":"96"},"V6":true}"#;
        let pool = PoolRequest { ipv6: true, length: Some(96), ..PoolRequest::default() };
        assert_eq!(lease("RequestPool", body), LeaseRequest::Pool(pool));
        let body = r#"{"Pool":"","Options":{"sextant.pool":"ula","com.docker.x":"y"},"V6":true}"#;
        let pool = PoolRequest { ipv6: true, pool: "ula".parse().ok(), ..PoolRequest::default() };
        assert_eq!(lease("RequestPool", body), LeaseRequest::Pool(pool));
        let body =
            r#"{"AddressSpace":"s","Pool":"10.0.0.0/16","SubPool":"10.0.1.0/24","Options":null,"V6":false}"#;
        let (subnet, range) = ("10.0.0.0/16".parse().ok(), "10.0.1.0/24".parse().ok());
        assert_eq!(
            lease("RequestPool", body),
            LeaseRequest::Pool(PoolRequest { subnet, range, ..PoolRequest::default() })
        );
        let body =
            r#"{"PoolID":"p#1","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}"#;
        let gateway = LeaseRequest::Address { pool: "p#1".into(), address: None, gateway: true };
        assert_eq!(lease("RequestAddress", body), gateway);
        let body =
            r#"{"PoolID":"p#1","Address":"fd00::7","Options":{"com.docker.network.ipam.serial":"true"}}"#;
        let address =
            LeaseRequest::Address { pool: "p#1".into(), address: "fd00::7".parse().ok(), gateway: false };
        assert_eq!(lease("RequestAddress", body), address);
        let released =
            LeaseRequest::ReleaseAddress { pool: "p#1".into(), address: "10.0.0.2".parse().unwrap() };
        assert_eq!(lease("ReleaseAddress", r#"{"PoolID":"p#1","Address":"10.0.0.2"}"#), released);
        assert_eq!(lease("ReleasePool", r#"{"PoolID":"p#1"}"#), LeaseRequest::ReleasePool("p#1".into()));
        assert_eq!(Request::read("/Plugin.Activate", b""), Ok(Request::Activate));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let table = [
            ("/NetworkDriver.Join", "{}", "/NetworkDriver.Join is no request of an IPAM driver"),
            ("/IpamDriver.RequestPool", "", "/IpamDriver.RequestPool: EOF"),
            ("/IpamDriver.RequestPool", r#"{"Pool":"10.0.0.1/8"}"#, "is no subnet"),
            ("/IpamDriver.ReleaseAddress", r#"{"Address":"x"}"#, "is no address"),
            (
                "/IpamDriver.RequestPool",
                r#"{"Options":{"sextant.size":"1"}}"#,
                "there are sextant.length and sextant.pool",
            ),
            ("/IpamDriver.RequestPool", r#"{"Options":{"pool":"ula"}}"#, "sextant.length and sextant.pool"),
            ("/IpamDriver.RequestPool", r#"{"Options":{"length":"96"}}"#, "sextant.length and sextant.pool"),
            (
                "/IpamDriver.RequestPool",
                r#"{"Options":{"sextant.pool":"U L A"}}"#,
                "as in `sextant pool list`",
            ),
            ("/IpamDriver.RequestPool", r#"{"Options":{"sextant.length":"x"}}"#, "e.g. 96"),
            ("/IpamDriver.RequestPool", r#"{"Options":{"sextant.length":{}}}"#, "e.g. 96"),
        ];
        for (path, body, words) in table {
            let text = Request::read(path, body.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
