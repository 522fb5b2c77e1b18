//! URLs of controllers: `https` with TLS, `http` for plain text.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use sextant_proto::{PlainTextError, plain_text_allowed};
use tonic::transport::Uri;

/// A controller's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerUrl {
    /// With the scheme `http`: a channel does not know what carries it.
    uri: Uri,
    secure: bool,
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL of a controller. The caller names it.
    #[error(
        "not a controller's URL; write it as https://HOST:PORT or http://HOST:PORT, e.g. http://[2001:db8::c:1]:7300"
    )]
    Malformed,
    /// TLS without files.
    #[error(
        "--controller {0} needs --tls-ca, --tls-cert and --tls-key; without TLS, write it as http://HOST:PORT"
    )]
    NoFiles(ControllerUrl),
    /// Plain text although there are files.
    #[error(
        "--controller {0} would carry plain text, and files for TLS are set; write it as https://HOST:PORT, or set no --tls-… file"
    )]
    Plain(ControllerUrl),
    /// Plain text beyond this host.
    #[error(transparent)]
    Transport(#[from] PlainTextError),
}

impl FromStr for ControllerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed;
        let uri: Uri = text.trim().parse().map_err(|_| malformed())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(malformed()),
        };
        let is_address = uri.port_u16().is_some()
            && uri.host().is_some_and(|host| !host.is_empty())
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        let authority = uri.authority().filter(|_| is_address).ok_or_else(malformed)?;
        let uri = Uri::builder().scheme("http").authority(authority.clone()).path_and_query("/").build();
        Ok(Self { uri: uri.map_err(|_| malformed())?, secure })
    }
}

impl ControllerUrl {
    /// Checks that the URL fits the other settings: whether there are files for TLS (`tls`), and whether plain text may leave this
    /// host (`insecure`).
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, tls: bool, insecure: bool) -> Result<(), UrlError> {
        match (self.secure, tls) {
            (true, true) => Ok(()),
            (true, false) => Err(UrlError::NoFiles(self.clone())),
            (false, true) => Err(UrlError::Plain(self.clone())),
            (false, false) => Ok(plain_text_allowed("--controller", self.host(), insecure)?),
        }
    }

    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port, as `HOST:PORT`.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |it| it.as_str())
    }

    /// The host: a name, or an address in brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Its IPv6 address, unless it has a host name.
    pub fn literal_address(&self) -> Option<Ipv6Addr> {
        self.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The URI of a channel.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for ControllerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.secure { "s" } else { "" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<ControllerUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn addresses_are_checked() {
        for good in ["http://[::1]:7300", "https://c1.example:7300/", "https://[2001:db8::c]:7300"] {
            assert_eq!(url(good).unwrap().to_string(), good.trim_end_matches('/'));
        }
        for bad in [
            "",
            "[::1]:7300",
            "ftp://[::1]:7300",
            "http://[::1]",
            "http:///x",
            "http://h:1/x",
            "https://h:1/?x",
            "ü",
        ] {
            let error = url(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn the_scheme_fits_the_files() {
        let (plain, secure) =
            (url("http://[2001:db8::c]:7300").unwrap(), url("https://[2001:db8::c]:7300").unwrap());
        assert_eq!(secure.check(true, false), Ok(()));
        assert!(secure.check(false, true).unwrap_err().to_string().contains("needs --tls-ca"));
        assert!(plain.check(true, true).unwrap_err().to_string().contains("write it as https://"));
        assert!(plain.check(false, false).unwrap_err().to_string().contains("--insecure"));
        assert_eq!(plain.check(false, true), Ok(()));
        assert_eq!(url("http://[::1]:7300").unwrap().check(false, false), Ok(()));
    }
}
