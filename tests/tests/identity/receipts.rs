//! A lost store is rebuilt from receipts of claims. Who has the certificate of a node and shows a claim that it was not granted gets
//! nothing by that.

use std::{fs, path::PathBuf, sync::Arc, time::SystemTime};

use prost::Message;
use rcgen::{KeyPair, SigningKey};
use serde_json::Value;
use sextant_authority::{Authority, Directory, Lifetime};
use sextant_identity::{Credentials, Dial, Paths, TlsDial, files};
use sextant_proto::{
    Claim, Epoch, Incarnation, NodeId, Pool, Prefix, Revision,
    v1::{self, agent_service_client::AgentServiceClient, claim_response::Outcome},
};
use sextant_receipts::{Content, Sign, issue};
use sextant_tests::{
    Lab, SECONDS,
    cluster::{Cluster, GUIDE, sorted},
    poll,
};
use tonic::{Code, Status, transport::Channel};

use crate::own::Own;

/// The lifetime of certificates that no test waits for.
const DAY: u32 = 86_400;

/// A host that has joined, whose agent says what it likes.
struct Thief<'a> {
    own: &'a Own,
    index: usize,
    node_id: NodeId,
}

impl Thief<'_> {
    fn files(&self) -> Paths {
        let tls = self.own.lab.state_dir(&self.own.hosts[self.index]).join("tls");
        let [authorities, certificate, key] = ["root.pem", "node.pem", "node.key"].map(|it| tls.join(it));
        Paths { authorities, certificate, key }
    }

    /// Asks for a claim, and shows these.
    fn asks(&self, held: Option<&Claim>, receipt: Option<&v1::Receipt>) -> Result<v1::ClaimResponse, Status> {
        let request = v1::ClaimRequest {
            node: self.own.hosts[self.index].name().to_owned(),
            node_id: self.node_id.into(),
            held: held.map(Into::into),
            receipt: receipt.cloned(),
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dial = TlsDial::new(Arc::new(Credentials::open(self.files(), None).unwrap()));
        let url = format!("http://[{}]:7300", Lab::controller_address(1));
        let answer = self.own.lab.switch().enter(|| {
            runtime.block_on(async {
                let channel = dial.dial(Channel::from_shared(url).unwrap()).await.unwrap();
                AgentServiceClient::new(channel).claim(request).await
            })
        });
        answer.unwrap().map(tonic::Response::into_inner)
    }

    fn granted(&self, held: Option<&Claim>, receipt: Option<&v1::Receipt>) -> (Claim, Option<v1::Receipt>) {
        let answer = self.asks(held, receipt).unwrap();
        let Some(Outcome::Granted(claim)) = answer.outcome else { panic!("{answer:?}") };
        (claim.try_into().unwrap(), answer.receipt)
    }

    fn is_refused(&self, held: &Claim, receipt: Option<&v1::Receipt>, why: &str) {
        let status = self.asks(Some(held), receipt).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("its receipt does not prove it"), "{status}");
        assert!(status.message().contains(why), "{why}: {status}");
    }
}

/// A claim of a store that nobody knows, later than all others.
fn forged(pool: &str, prefix: &str, host_len: u32) -> Claim {
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(u64::MAX) };
    let pool = Pool::new("main".parse().unwrap(), pool.parse().unwrap(), host_len, host_len.max(80));
    Claim { prefix: prefix.parse().unwrap(), epoch, pool: pool.unwrap() }
}

fn content(receipt: &v1::Receipt) -> Content {
    v1::ReceiptContent::decode(&receipt.content[..]).unwrap().try_into().unwrap()
}

/// The key of a node's certificate, which signs what it can.
struct NodeKey(KeyPair, Vec<Vec<u8>>);

impl Sign for NodeKey {
    type Error = rcgen::Error;

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }

    fn chain(&self) -> &[Vec<u8>] {
        &self.1
    }
}

fn receipts_file(own: &Own, index: usize) -> PathBuf {
    own.lab.state_dir(&own.hosts[index]).join("receipts.json")
}

/// The receipt that the agent of a host keeps.
fn kept(own: &Own, index: usize) -> v1::Receipt {
    let kept: Value = serde_json::from_slice(&fs::read(receipts_file(own, index)).unwrap()).unwrap();
    let hex = kept[0]["receipt"].as_str().unwrap();
    let octets: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    v1::Receipt::decode(&octets[..]).unwrap()
}

/// The controller's store is gone, and with it all that it knew.
fn lose_store(own: &mut Own) {
    own.controllers.clear();
    fs::remove_file(own.lab.dir().join("controller-1")).unwrap();
    own.start_controller(1, None);
}

fn prefix(own: &Own, name: &str) -> Value {
    own.node(name)["prefix"].clone()
}

#[test]
fn i2_a_lost_store_is_rebuilt_from_receipts_and_forged_claims_are_refused() {
    let mut own = Own::start("receipts", 3, DAY);
    (0..3).for_each(|index| own.join_anew(index));
    (0..2).for_each(|index| own.start_agent(index, &[]));
    let before = ["h1", "h2"].map(|name| own.wait_ready(name)["prefix"].clone());
    own.sextant(&["wait", "--timeout", "20s"]);
    poll("the routes", 20 * SECONDS, || {
        let routes = own.hosts[0].routes_of(66)?.join("\n");
        anyhow::ensure!(routes.contains(before[1].as_str().unwrap_or("none")), "{routes}");
        anyhow::Ok(())
    });
    let routes = sorted(own.hosts[0].routes_of(66).unwrap());
    let node_id = NodeId::random();
    let (claim, receipt) = Thief { own: &own, index: 2, node_id }.granted(None, None);
    let receipt = receipt.expect("a grant has a receipt");
    let h1 = kept(&own, 0);
    assert_eq!(content(&h1).node.as_str(), "h1");

    own.agents.iter().for_each(|agent| agent.process.freeze().unwrap());
    lose_store(&mut own);
    let thief = Thief { own: &own, index: 2, node_id };
    // The fresh store knows nobody yet.
    let none = "there is none";
    thief.is_refused(&forged("2606:4700::/32", "2606:4700:1::/64", 64), None, none);
    thief.is_refused(&forged("2001:db8::/32", "2001:db8:1::/64", 64), None, none);
    thief.is_refused(&forged("2001:db8:8000::/40", before[0].as_str().unwrap(), 64), None, none);
    // A receipt of another node, of another claim, an altered one.
    let of_h1 = content(&h1).claim;
    thief.is_refused(&of_h1, Some(&h1), "it is of node h1");
    thief.is_refused(&of_h1, Some(&receipt), "it is of the claim of ");
    let mut altered = v1::ReceiptContent::decode(&receipt.content[..]).unwrap();
    altered.claim = Some((&of_h1).into());
    let altered = v1::Receipt { content: altered.encode_to_vec().into(), ..receipt.clone() };
    thief.is_refused(&of_h1, Some(&altered), "its signature is not that of its signer");
    // One that another cluster, or the node itself, has signed.
    let wanted = Content { claim: of_h1.clone(), signed: SystemTime::now(), ..content(&receipt) };
    let other = own.lab.dir().join("other-pki");
    own.pki_in(&other, &["init", "--name", "c1"]);
    let other = Authority::open(Directory::new(other), Lifetime::default()).unwrap();
    let signer = other.signer(SystemTime::now()).unwrap();
    thief.is_refused(&of_h1, Some(&issue(&wanted, signer.as_ref()).unwrap()), "UnknownIssuer");
    let files = thief.files();
    let key = KeyPair::from_pem(&fs::read_to_string(&files.key).unwrap()).unwrap();
    let own_key = NodeKey(key, files::read_certificates(&files.certificate).unwrap());
    thief.is_refused(&of_h1, Some(&issue(&wanted, &own_key).unwrap()), "names no signer of receipts");
    // Nothing of it is in the store, and nobody waits for a store that was lost by its word.
    assert_eq!(own.sextant(&["-o", "json", "pool", "list"]).trim(), "[]");
    let status: Value = serde_json::from_str(&own.sextant(&["-o", "json", "status"])).unwrap();
    assert_eq!(status["nodes"], serde_json::json!([]), "{status}");

    own.agents.iter().for_each(|agent| agent.process.thaw().unwrap());
    let after = ["h1", "h2"].map(|name| own.wait_ready(name)["prefix"].clone());
    assert_eq!(after, before, "I2");
    let events = own.sextant(&["events"]);
    assert!(events.contains("h1 re-registered, ") && events.contains("pool restored, "), "{events}");
    own.sextant(&["wait", "--timeout", "20s"]);
    assert_eq!(sorted(own.hosts[0].routes_of(66).unwrap()), routes, "I6");

    // The store replaces a lost one by now.
    thief.is_refused(&forged("2001:db8::/32", "2001:db8:1::/64", 64), None, none);
    thief.is_refused(&forged("2001:db8:8000::/40", before[1].as_str().unwrap(), 64), None, none);
    thief.is_refused(&forged("2001:db8:8000::/40", "2001:db8:8080::/41", 64), None, none);
    let mut later = claim.clone();
    later.epoch.revision = Revision(u64::MAX);
    thief.is_refused(&later, Some(&receipt), "it is of the claim since ");
    // Its own receipt gives it what it had.
    let (again, anew) = thief.granted(Some(&claim), Some(&receipt));
    assert_eq!(again.prefix, claim.prefix);
    assert_eq!(content(&anew.unwrap()).claim.epoch, again.epoch);

    // Outside of any window, a shown claim changes nothing: the node has the one that it has.
    let recovery: Value = serde_json::from_str(&own.sextant(&["-o", "json", "recover"])).unwrap();
    let refused = recovery["unregistered"].as_array().unwrap().len().to_string();
    own.sextant(&["recover", "--finish", "--confirm", &refused]);
    let free = forged("2001:db8:8000::/40", "2001:db8:8080::/41", 64);
    assert_eq!(thief.granted(Some(&free), None).0.prefix, claim.prefix);
    own.sextant(&["node", "forget", "h3", "--force"]);
    thief.is_refused(&free, None, "is closed");
    let stolen: Prefix = before[0].as_str().unwrap().parse().unwrap();
    assert_ne!(thief.granted(None, None).0.prefix, stolen);
    assert_eq!(prefix(&own, "h1"), before[0]);
}

/// Claims from before receipts: an agent gets one at its next connection; after the loss of a store, an admin lets them count.
#[test]
fn claims_without_receipts_count_by_an_admins_word_alone() {
    let mut own = Own::start("unsigned", 1, DAY);
    own.join_anew(0);
    own.start_agent(0, &[]);
    let before = own.wait_ready("h1")["prefix"].clone();
    let file = receipts_file(&own, 0);
    assert!(file.exists());
    own.agents.clear();
    fs::remove_file(&file).unwrap();
    own.start_agent(0, &[]);
    poll("the agent gets a receipt for its claim", 20 * SECONDS, || {
        anyhow::ensure!(file.exists(), "no {}", file.display());
        anyhow::Ok(())
    });

    own.agents.clear();
    fs::remove_file(&file).unwrap();
    lose_store(&mut own);
    let closed = own.cli(&["recover", "--finish", "--accept-unsigned"]);
    assert_eq!(closed.code, 2, "{closed:?}");
    own.start_agent(0, &[]);
    poll("the status says why", 30 * SECONDS, || {
        let status = own.sextant(&["status"]);
        anyhow::ensure!(status.contains("sextant recover --accept-unsigned"), "{status}");
        anyhow::Ok(())
    });
    assert!(own.node("h1").is_null());
    own.sextant(&["recover", "--accept-unsigned"]);
    assert_eq!(own.wait_ready("h1")["prefix"], before);
    let events = own.sextant(&["events"]);
    assert!(events.contains("unsigned claims accepted") && events.contains("admin ann at "), "{events}");
    poll("a receipt", 20 * SECONDS, || {
        anyhow::ensure!(file.exists(), "no {}", file.display());
        anyhow::Ok(())
    });
    own.sextant(&["recover", "--finish"]);
    let late = own.cli(&["recover", "--accept-unsigned"]);
    assert!(late.code == 4 && late.stderr.contains("the recovery window is closed"), "{late:?}");
}

/// Over plain text receipts are signed too, by a key beside the store, so that they are there when the cluster moves to TLS.
#[test]
fn a_controller_without_tls_signs_receipts_by_a_key_beside_its_store() {
    let cluster = Cluster::start("plain receipts", 1, GUIDE);
    assert!(cluster.lab.dir().join("controller-1.receipts.key").exists());
    let file = cluster.lab.state_dir(&cluster.hosts[0]).join("receipts.json");
    poll("the agent keeps a receipt", 20 * SECONDS, || {
        anyhow::ensure!(file.exists(), "no {}", file.display());
        anyhow::Ok(())
    });
}
