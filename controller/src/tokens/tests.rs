//! Tokens in a real store, of two controllers.

use std::sync::Arc;

use super::*;
use crate::{index::IndexTask, registry::embedded::EmbeddedStore, store};

struct Fixture {
    _dir: tempfile::TempDir,
    registry: SharedRegistry,
    keys: Keys,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        Self { _dir: dir, registry, keys: Keys::new(&"test".parse().unwrap()) }
    }

    /// The tokens of a controller.
    async fn controller(&self) -> Tokens {
        let meta = store::open(&self.registry, &self.keys).await.unwrap();
        let (task, index) = IndexTask::start(self.registry.clone(), self.keys.clone(), meta).await.unwrap();
        tokio::spawn(task.run());
        Tokens::new(self.registry.clone(), self.keys.clone(), index)
    }
}

fn for_nodes(nodes: &str, count: u32) -> NewToken {
    let life = Duration::from_secs(900);
    NewToken { nodes: nodes.parse().unwrap(), count, life, wish: Wish::default() }
}

async fn created(tokens: &Tokens, new: &NewToken) -> JoinToken {
    tokens.create(new, Fingerprint::of(b"root"), &Actor::controller(), 1_000).await.unwrap().0
}

fn host(token: &JoinToken, node: &str, key: u8) -> Host {
    let (node, secret) = (node.parse().unwrap(), token.secret.clone());
    Host { token: token.id, secret, node, key_hash: [key; 32] }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_at_two_controllers_exactly_one_wins() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.controller().await, fixture.controller().await);
    for _ in 0..20 {
        let token = created(&a, &for_nodes("h7", 1)).await;
        let by = Actor::controller();
        let (first, second) = (host(&token, "h7", 1), host(&token, "h7", 2));
        let (first, second) = tokio::join!(a.spend(&first, &by, 2_000), b.spend(&second, &by, 2_000));
        let why = match (first, second) {
            (Ok(_), Err(why)) | (Err(why), Ok(_)) => why.to_string(),
            both => panic!("{both:?}"),
        };
        assert!(why.contains("the join token was used by another host"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_joins_at_once_spends_the_token_to_the_end() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.controller().await, fixture.controller().await);
    let token = created(&a, &for_nodes("web-*", 12)).await;
    let joins = (0..14u8).map(|n| {
        let (tokens, host) =
            (if n % 2 == 0 { a.clone() } else { b.clone() }, host(&token, &format!("web-{n}"), n));
        tokio::spawn(async move { tokens.spend(&host, &Actor::controller(), 2_000).await })
    });
    let mut refused = 0;
    for join in joins.collect::<Vec<_>>() {
        match join.await.unwrap() {
            Ok(_) => {}
            Err(TokensError::Unusable(Unusable::Spent { .. })) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 2);
    assert_eq!(a.list().await.unwrap()[0].1.uses.len(), 12);
}

#[tokio::test]
async fn the_secret_is_nowhere_in_the_store_and_a_revoked_token_is_unknown() {
    let fixture = Fixture::new();
    let tokens = fixture.controller().await;
    let token = created(&tokens, &for_nodes("h7", 1)).await;
    let by = Actor::controller();
    tokens.spend(&host(&token, "h7", 1), &by, 2_000).await.unwrap();
    let line = token.line();
    let digits = line.rsplit(':').next().unwrap().as_bytes();
    for entry in fixture.registry.list(&fixture.keys.all()).await.unwrap().entries {
        let has = |secret: &[u8]| entry.value.windows(secret.len()).any(|it| it == secret);
        assert!(!has(token.secret.octets()) && !has(digits), "{}", entry.key);
    }
    tokens.revoke(token.id, &by).await.unwrap();
    let why = tokens.spend(&host(&token, "h7", 1), &by, 2_000).await.unwrap_err().to_string();
    assert!(why.contains(&format!("there is no join token {}", token.id)), "{why}");
    let what: Vec<_> = crate::audit::list(&fixture.registry, &fixture.keys).await.unwrap().1;
    let what: Vec<_> = what.iter().map(|it| it.record.what.as_str()).collect();
    assert_eq!(what, ["token created", "joined", "token revoked"]);
}

#[tokio::test]
async fn tokens_that_ended_long_ago_are_deleted_by_the_next_one() {
    let fixture = Fixture::new();
    let tokens = fixture.controller().await;
    let old = created(&tokens, &for_nodes("h7", 1)).await;
    let later = 1_000 + 900_000 + KEPT_MS + 1;
    let root = Fingerprint::of(b"root");
    let (new, ..) = tokens.create(&for_nodes("h8", 1), root, &Actor::controller(), later).await.unwrap();
    let ids: Vec<_> = tokens.list().await.unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [new.id]);
    assert_ne!(new.id, old.id);
}

#[tokio::test]
async fn the_host_that_joined_last_as_a_node_alone_gets_further_certificates() {
    let fixture = Fixture::new();
    let tokens = fixture.controller().await;
    let (by, node) = (Actor::controller(), "h7".parse().unwrap());
    tokens.may_renew(&node, [1; 32]).await.unwrap();
    let first = created(&tokens, &for_nodes("h7", 1)).await;
    tokens.spend(&host(&first, "h7", 1), &by, 2_000).await.unwrap();
    tokens.may_renew(&node, [1; 32]).await.unwrap();
    let second = created(&tokens, &for_nodes("h7", 1)).await;
    tokens.spend(&host(&second, "h7", 2), &by, 2_000).await.unwrap();
    tokens.may_renew(&node, [2; 32]).await.unwrap();
    let why = tokens.may_renew(&node, [1; 32]).await.unwrap_err().to_string();
    assert!(why.starts_with("another host has joined as node h7 since"), "{why}");
    // Its own token, which it may use again otherwise, does not help it.
    let why = tokens.spend(&host(&first, "h7", 1), &by, 2_000).await.unwrap_err().to_string();
    assert!(why.starts_with("another host has joined as node h7 since"), "{why}");
}

#[test]
fn a_token_for_one_node_is_for_one_host_and_lives_a_week_at_most() {
    let why = |nodes: &str, count, life| {
        let new = NewToken { life: Duration::from_secs(life), ..for_nodes(nodes, count) };
        check(&new).unwrap_err().to_string()
    };
    assert_eq!(why("h7", 2, 60), "--count 2: a token for h7 is for one host; give a pattern, e.g. 'web-*'");
    assert_eq!(why("web-*", 0, 60), "--count 0: a token for web-* is for 1 to 1000 hosts");
    assert_eq!(why("h7", 1, 8 * 86_400), "--ttl 691200s: give it 1s to 168h");
}
