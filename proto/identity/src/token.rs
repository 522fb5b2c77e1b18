//! A join token: one line, with which a host gets the certificate of its node. Pure, but for the random numbers of a new one.
//!
//! `sextant-join:ROOT:ID:SECRET`, all in hexadecimal digits: the SHA-256 of the root certificate of the cluster, by which the host
//! knows the cluster; the name of the token; and its secret. The store knows only the SHA-256 of the secret.

use std::{fmt, str::FromStr};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use subtle::ConstantTimeEq;

const SCHEME: &str = "sextant-join";

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The root of the cluster.
    pub root: Fingerprint,
    /// The name of the token.
    pub id: TokenId,
    /// Its secret.
    pub secret: Secret,
}

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The name of a token. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId(u64);

/// The secret of a token. It is shown only in the token's line.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// The SHA-256 of a [`Secret`].
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// Why a text is no token. The text is not repeated: it may have a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not have the form of one.
    #[error(
        "this is no join token; it is one line, sextant-join:ROOT:ID:SECRET, as `sextant token create` prints it: copy the whole line"
    )]
    Form,
    /// The name of a token is none.
    #[error(
        "this is no name of a join token; it has 16 hexadecimal digits, as `sextant token list` shows them"
    )]
    Id,
    /// There are no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

impl JoinToken {
    /// A new token for hosts of the cluster with this root.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate(root: Fingerprint) -> Result<Self, TokenError> {
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| TokenError::Random)?;
        Ok(Self { root, id: TokenId(u64::from_be_bytes(id)), secret: Secret(secret) })
    }

    /// The line, which has the secret.
    pub fn line(&self) -> String {
        format!("{SCHEME}:{}:{}:{}", self.root, self.id, hex(&self.secret.0))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [SCHEME, root, id, secret] = parts[..] else { return Err(TokenError::Form) };
        let root = octets(root).map(Fingerprint).ok_or(TokenError::Form)?;
        let secret = octets(secret).map(Secret).ok_or(TokenError::Form)?;
        Ok(Self { root, id: id.parse().map_err(|_| TokenError::Form)?, secret })
    }
}

impl Fingerprint {
    /// Of the certificate with this DER encoding.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        octets(text).map(|octets| Self(u64::from_be_bytes(octets))).ok_or(TokenError::Id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Secret {
    /// From its octets; `None` if they are not as many as it has.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }

    /// Its octets, for the message to a controller.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Its hash, for the store.
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(&self.0))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl SecretHash {
    /// From its octets; `None` if they are not as many as it has.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }

    /// Its octets, for the store.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Takes the same time for all hashes.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// The SHA-256 of these octets.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, octets).as_ref());
    hash
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The octets of hexadecimal digits, if there are just `N`.
fn octets<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = [0; N];
    for (octet, digits) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_is_read_again() {
        let token = JoinToken::generate(Fingerprint::of(b"root")).unwrap();
        let line = token.line();
        assert!(line.starts_with("sextant-join:") && !line.contains(char::is_whitespace), "{line}");
        assert_eq!(format!("{line}\n").parse::<JoinToken>().unwrap(), token);
        assert_ne!(JoinToken::generate(token.root).unwrap().line(), line);
        assert_eq!(token.id.to_string().parse::<TokenId>().unwrap(), token.id);
    }

    #[test]
    fn whatever_is_no_token_is_refused_without_being_repeated() {
        let line = JoinToken::generate(Fingerprint::of(b"root")).unwrap().line();
        let (short, secret) = (&line[..line.len() - 1], &line[line.len() - 64..]);
        let signed = line.replace(secret, &format!("+{}", &secret[1..]));
        for text in ["", "sextant-join", short, &format!("{line}0"), &line.replace("join", "token"), &signed]
        {
            let error = text.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains("copy the whole line") && !error.contains(&secret[1..9]), "{error}");
        }
        assert_eq!("7".parse::<TokenId>(), Err(TokenError::Id));
    }

    #[test]
    fn a_secret_is_known_by_its_hash_and_shown_by_nothing_else() {
        let token = JoinToken::generate(Fingerprint::of(b"root")).unwrap();
        let other = JoinToken::generate(token.root).unwrap();
        let kept = SecretHash::from_octets(token.secret.hash().octets()).unwrap();
        assert!(token.secret.hash() == kept && other.secret.hash() != kept);
        assert_eq!(format!("{:?} {:?}", token.secret, kept), "Secret SecretHash");
        assert!(!format!("{token:?}").contains(&hex(token.secret.octets())));
        assert!(Secret::from_octets(&[0; 31]).is_none());
    }
}
