//! Addresses of controllers.

use std::{fmt, net::Ipv6Addr};

use sextant_proto::plain_text_allowed;
use tonic::transport::Uri;

/// A controller's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// An invalid address of a controller.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It is not a URL with scheme http, host and port.
    #[error("is not an address; write it as http://HOST:PORT, e.g. http://[2001:db8::c:1]:7300")]
    Malformed,
    /// It requires plain text beyond loopback.
    #[error(transparent)]
    Transport(#[from] sextant_proto::PlainTextError),
}

impl Endpoint {
    /// An address like `http://[2001:db8::c]:7300`.
    ///
    /// # Errors
    /// If it is malformed, or plain text is not permitted.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        let is_http = uri.scheme_str() == Some("http") && uri.port().is_some();
        let host = uri.host().filter(|_| is_http).ok_or(EndpointError::Malformed)?;
        plain_text_allowed("controller", host, insecure)?;
        Ok(Self(uri))
    }

    /// Host and port, as `HOST:PORT`.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |it| it.as_str())
    }

    /// Its URI.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Its IPv6 address, unless it has a host name.
    pub fn literal_address(&self) -> Option<Ipv6Addr> {
        self.0.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme_str().unwrap_or_default(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert_eq!(Endpoint::parse("http://[::1]:7300", false).unwrap().to_string(), "http://[::1]:7300");
        for bad in ["", "[::1]:7300", "https://[::1]:7300", "http://[::1]", "http:///x"] {
            assert!(Endpoint::parse(bad, true).is_err(), "{bad}");
        }
        let error = Endpoint::parse("http://[2001:db8::c]:7300", false).unwrap_err().to_string();
        assert!(error.contains("--insecure"), "{error}");
    }
}
