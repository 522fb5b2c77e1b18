//! `sextant token`: join tokens.

use serde_json::Value;
use sextant_identity::TokenId;
use sextant_proto::{Revision, v1};

use crate::{
    args::Token,
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant token create`, `list` and `revoke`.
pub(crate) async fn token(link: &mut Link, output: Output, command: Token) -> Result<(), Failure> {
    match command {
        Token::Create { node, count, ttl, pool, host_len } => {
            let request = v1::CreateTokenRequest {
                nodes: node,
                count,
                ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
                pool: pool.map(|it| it.to_string()).unwrap_or_default(),
                host_len: host_len.unwrap_or(0),
            };
            show::print(output, &link.create_token(&request).await?)
        }
        Token::List => show::print(output, &Tokens(link.tokens().await?)),
        Token::Revoke { id } => {
            let revision = link.revoke_token(id).await?;
            show::print(output, &Revoked { id, revision })
        }
    }
}

struct Tokens(Vec<v1::JoinToken>);

struct Revoked {
    id: TokenId,
    revision: Revision,
}

/// The line alone: it is for the standard input of `sextant-agent join`.
impl Show for v1::CreateTokenResponse {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("{}\n", text::one_line(&self.line))
    }

    fn json(&self) -> Value {
        let none = v1::JoinToken::default();
        let token = json::Token::from(self.token.as_ref().unwrap_or(&none));
        json::value(json::TokenCreated { line: &self.line, token, revision: Revision(self.revision) })
    }
}

impl Show for Tokens {
    fn text(&self, now_unix_ms: u64) -> String {
        text::token_list(&self.0, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::list(self.0.iter().map(json::Token::from))
    }
}

impl Show for Revoked {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("join token {} revoked\n", self.id)
    }

    fn json(&self) -> Value {
        json::value(json::TokenRevoked { id: &self.id.to_string(), revision: self.revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_one_line_and_nothing_else() {
        let created = v1::CreateTokenResponse { line: "sextant-join:1:2:3".into(), ..Default::default() };
        assert_eq!(created.text(0), "sextant-join:1:2:3\n");
        assert_eq!(created.json()["line"], "sextant-join:1:2:3");
    }
}
