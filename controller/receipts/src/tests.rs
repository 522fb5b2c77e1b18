use std::time::{Duration, SystemTime};

use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SigningKey,
};
use sextant_identity::{SignerError, signer::DOCUMENT_SIGNING};
use sextant_proto::{Claim, Epoch, Incarnation, NodeId, Pool, Revision, v1};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A root, and what it certifies.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

struct Key {
    key: KeyPair,
    chain: Vec<Vec<u8>>,
}

impl Sign for Key {
    type Error = rcgen::Error;

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message)
    }

    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }
}

/// A leaf, for a day around now.
fn leaf(uri: &str, usages: &[ExtendedKeyUsagePurpose], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = usages.to_vec();
    (params.not_before, params.not_after) = ((now - DAY / 2).into(), (now + DAY / 2).into());
    params
}

fn signing() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec())
}

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{:x?}", &key.public_key_raw()[..8]));
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn certified(&self, params: &CertificateParams) -> Key {
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().to_vec()];
        Key { key, chain }
    }

    /// A signer that an issuing certificate certifies.
    fn signer(&self) -> Key {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "issuing");
        let issuing = self.certified(&params);
        let (issuer, key) = (Issuer::new(params, issuing.key), KeyPair::generate().unwrap());
        let params = leaf("spiffe://default/receipts/c1", &[signing()], SystemTime::now());
        let own = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Key { key, chain: vec![own, issuing.chain[0].clone()] }
    }

    fn trust(&self) -> Trust {
        Trust::Roots(vec![self.der.clone()])
    }
}

fn content() -> Content {
    let pool = Pool::new("main".parse().unwrap(), "2001:db8::/40".parse().unwrap(), 64, 80).unwrap();
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
    Content {
        cluster: "default".parse().unwrap(),
        node: "h1".parse().unwrap(),
        node_id: NodeId::random(),
        claim: Claim { prefix: "2001:db8:0:5::/64".parse().unwrap(), epoch, pool },
        ancestors: vec![Incarnation::random()],
        signed: SystemTime::UNIX_EPOCH + Duration::from_millis(sextant_proto::unix_ms()),
    }
}

fn covers(content: &Content, of: &Content) -> Result<(), Mismatch> {
    let bearer = Bearer { node: &of.node, node_id: of.node_id };
    content.covers(&of.cluster, bearer, of.claim.prefix, of.claim.epoch)
}

#[test]
fn a_receipt_proves_what_was_signed() {
    let (root, content) = (Root::new(), content());
    let receipt = issue(&content, &root.signer()).unwrap();
    let proven = verify(&receipt, &root.trust()).unwrap();
    assert_eq!(proven, content);
    assert_eq!(covers(&proven, &content), Ok(()));
    let other = Trust::Roots(vec![Root::new().der]);
    assert!(matches!(verify(&receipt, &other), Err(Invalid::Signer(SignerError::Chain(_)))));
    // While a root is replaced, both are trusted.
    let both = Trust::Roots(vec![Root::new().der, root.der.clone()]);
    assert_eq!(verify(&receipt, &both).unwrap(), content);
}

/// Each part of the content, changed by who has no key.
#[test]
fn a_receipt_with_any_part_changed_proves_nothing() {
    let (root, content) = (Root::new(), content());
    let receipt = issue(&content, &root.signer()).unwrap();
    let changes: [fn(&mut v1::ReceiptContent); 10] = [
        |it| it.version += 1,
        |it| it.cluster = "other".into(),
        |it| it.node = "h2".into(),
        |it| it.node_id = NodeId::random().into(),
        |it| it.claim.as_mut().unwrap().prefix.as_mut().unwrap().length = 48,
        |it| it.claim.as_mut().unwrap().epoch.as_mut().unwrap().revision = u64::MAX,
        |it| it.claim.as_mut().unwrap().epoch.as_mut().unwrap().incarnation = Incarnation::random().into(),
        |it| it.claim.as_mut().unwrap().pool.as_mut().unwrap().prefix.as_mut().unwrap().length = 32,
        |it| it.ancestors.clear(),
        |it| it.signed_unix_ms += 1,
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut altered = v1::ReceiptContent::decode(&receipt.content[..]).unwrap();
        change(&mut altered);
        let altered = v1::Receipt { content: altered.encode_to_vec().into(), ..receipt.clone() };
        assert!(verify(&altered, &root.trust()).is_err(), "change {nth}");
    }
    for octet in 0..receipt.signature.len() {
        let mut signature = receipt.signature.to_vec();
        signature[octet] ^= 1;
        let altered = v1::Receipt { signature: signature.into(), ..receipt.clone() };
        assert!(verify(&altered, &root.trust()).is_err(), "octet {octet}");
    }
    let without = v1::Receipt { chain: Vec::new(), ..receipt.clone() };
    assert!(matches!(verify(&without, &root.trust()), Err(Invalid::Signer(SignerError::Length(0)))));
    let long = v1::Receipt { content: vec![0; 65_536].into(), ..receipt };
    assert!(matches!(verify(&long, &root.trust()), Err(Invalid::Length)));
    assert!(verify(&v1::Receipt::default(), &root.trust()).is_err());
}

#[test]
fn a_receipt_is_of_one_claim_of_one_node() {
    type Change = fn(&mut Content);
    let content = content();
    let changes: [(Change, &str); 5] = [
        (|it| it.cluster = "other".parse().unwrap(), "it is of cluster other"),
        (|it| it.node = "h2".parse().unwrap(), "it is of node h2"),
        (|it| it.node_id = NodeId::random(), "it is of node id "),
        (
            |it| it.claim.prefix = "2001:db8:0:6::/64".parse().unwrap(),
            "it is of the claim of 2001:db8:0:6::/64",
        ),
        (|it| it.claim.epoch.revision = Revision(6), "it is of the claim since "),
    ];
    for (change, why) in changes {
        let mut shown = content.clone();
        change(&mut shown);
        let found = covers(&shown, &content).unwrap_err().to_string();
        assert!(found.starts_with(why), "{found}");
    }
}

/// The chain counts at the time of the receipt: a signer's certificate that has ended since is as good; one that had not begun, or had
/// ended then, is not.
#[test]
fn the_signers_certificate_counts_as_it_was_when_it_signed() {
    let (root, now) = (Root::new(), SystemTime::now());
    let of = |made: SystemTime| root.certified(&leaf("spiffe://default/receipts/c1", &[signing()], made));
    let signed = |ago: Duration, signer: &Key| {
        let content = Content { signed: now - ago, ..content() };
        verify(&issue(&content, signer).unwrap(), &root.trust()).map(drop).map_err(|it| it.to_string())
    };
    let ended = of(now - 300 * DAY);
    assert_eq!(signed(300 * DAY, &ended), Ok(()));
    let late = signed(Duration::ZERO, &ended).unwrap_err();
    assert!(late.contains("CertExpired"), "{late}");
    let early = signed(302 * DAY, &ended).unwrap_err();
    assert!(early.contains("CertNotValidYet"), "{early}");
    assert_eq!(signed(Duration::ZERO, &of(now)), Ok(()));
}

/// The certificates of members, and of signers for other uses.
#[test]
fn no_other_certificate_signs_receipts() {
    let (root, now, content) = (Root::new(), SystemTime::now(), content());
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let refused = |uri: &str, usages: &[ExtendedKeyUsagePurpose], why: &str| {
        let signer = root.certified(&leaf(uri, usages, now));
        let found = verify(&issue(&content, &signer).unwrap(), &root.trust()).unwrap_err().to_string();
        assert!(found.contains(why), "{uri}: {found}");
    };
    for member in ["node/h1", "controller/c1", "admin/ann"] {
        let uri = format!("spiffe://default/{member}");
        refused(&uri, std::slice::from_ref(&client), "names no signer of receipts");
        refused(&uri, &[signing()], "names no signer of receipts");
    }
    let uri = "spiffe://default/receipts/c1";
    refused(uri, &[client], "is not for document signing");
    refused(uri, &[], "is not for document signing");
    refused("spiffe://other/receipts/c1", &[signing()], "its signer is of cluster other");
    let mut authority = leaf(uri, &[signing()], now);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signer = root.certified(&authority);
    assert!(verify(&issue(&content, &signer).unwrap(), &root.trust()).is_err(), "an authority");
    // A node's certificate certifies no signer.
    let node = root.certified(&leaf("spiffe://default/node/h1", &[], now));
    let by_node = Issuer::new(leaf("spiffe://default/node/h1", &[], now), node.key);
    let key = KeyPair::generate().unwrap();
    let forged = leaf(uri, &[signing()], now).signed_by(&key, &by_node).unwrap().der().to_vec();
    let forged = Key { key, chain: vec![forged, node.chain[0].clone()] };
    assert!(verify(&issue(&content, &forged).unwrap(), &root.trust()).is_err());
}

/// Without an authority, a signer is trusted for its key; its certificate alone proves nothing.
#[test]
fn a_signer_without_an_authority_is_known_by_its_key() {
    let params = leaf("spiffe://default/receipts/c1", &[signing()], SystemTime::now());
    let (key, content) = (KeyPair::generate().unwrap(), content());
    let own = |key: &KeyPair| params.self_signed(key).unwrap().der().to_vec();
    let chain = vec![own(&key)];
    let trust = Trust::Key(sextant_identity::certificate::public_key(&chain[0]).unwrap());
    let signer = Key { key, chain: chain.clone() };
    assert_eq!(verify(&issue(&content, &signer).unwrap(), &trust).unwrap(), content);
    let thief = KeyPair::generate().unwrap();
    let others = Key { chain: vec![own(&thief)], key: thief };
    assert!(verify(&issue(&content, &others).unwrap(), &trust).is_err());
    let borrowed = Key { key: others.key, chain };
    let error = verify(&issue(&content, &borrowed).unwrap(), &trust).unwrap_err();
    assert!(matches!(error, Invalid::Signer(SignerError::Signature)), "{error}");
}

#[test]
fn another_receipt_is_needed_once_the_claim_or_the_root_is_another() {
    let (root, next, content) = (Root::new(), Root::new(), content());
    let receipt = issue(&content, &root.signer()).unwrap();
    let later = Content { signed: content.signed + DAY, ..content.clone() };
    assert!(looks_like(&receipt, &later, &root.trust()));
    assert!(!looks_like(&receipt, &later, &next.trust()), "another root");
    let mut grown = later;
    grown.claim.pool.prefix = "2001:db8::/32".parse().unwrap();
    assert!(!looks_like(&receipt, &grown, &root.trust()), "a pool that has grown");
}
