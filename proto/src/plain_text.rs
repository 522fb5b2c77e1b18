//! When connections may be plain text.

use std::net::IpAddr;

/// Why an address may not be spoken to, or listened on, in plain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {address} would carry plain text past this host; use a loopback address, or accept it with --insecure"
)]
pub struct PlainTextError {
    what: &'static str,
    address: String,
}

/// Plain text stays on loopback unless `insecure` says otherwise (DESIGN §7). `what` names the setting in the error.
///
/// # Errors
/// If `host` is neither a loopback address nor `localhost` and `insecure` is not set.
pub fn plain_text_allowed(what: &'static str, host: &str, insecure: bool) -> Result<(), PlainTextError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || insecure { Ok(()) } else { Err(PlainTextError { what, address: host.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_plain() {
        for host in ["::1", "[::1]", "127.0.0.1", "127.9.9.9", "localhost"] {
            assert!(plain_text_allowed("--listen", host, false).is_ok(), "{host}");
        }
        for host in ["::", "2001:db8::1", "0.0.0.0", "controller.example"] {
            assert!(plain_text_allowed("--listen", host, false).is_err(), "{host}");
            assert!(plain_text_allowed("--listen", host, true).is_ok(), "{host}");
        }
    }
}
