//! The edge to etcd: one connection to one member. No other module imports `etcd_client`.
//!
//! It converts requests into etcd's requests, and etcd's answers into our types. It decides nothing.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, KeyValue, LeaseGrantOptions, PutOptions,
    ResponseHeader, SortOrder, SortTarget, TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use sextant_proto::Revision;

use super::{
    connection::Connection,
    fault::{Fault, Kind},
    follow::{Message, Probe, ProbeResult},
    options::{ConnectError, EtcdOptions},
    paging::{Page, Reply},
};
use crate::registry::{Entry, Event, Guard, KeyRange, LeaseId, Op, Outcome, Txn};

/// The largest accepted reply, in octets: a page, or the backlog of a watch.
const LARGEST_REPLY: usize = 64 << 20;
/// The longest TTL that etcd grants, in seconds.
const LONGEST_TTL: u64 = 9_000_000_000;

/// One member; cheap to clone.
#[derive(Clone)]
pub struct Member {
    /// Its URL.
    pub endpoint: Arc<str>,
    connection: Arc<Connection>,
}

/// Clients of all members. No connection is made yet.
pub async fn members(options: &EtcdOptions) -> Result<Vec<Member>, ConnectError> {
    let mut members = Vec::new();
    for endpoint in &options.endpoints {
        let connection = Arc::new(Connection::new(endpoint, options).await?);
        members.push(Member { endpoint: endpoint.as_str().into(), connection });
    }
    Ok(members)
}

impl Member {
    /// Logs in, if a login is configured and was not done yet. Files that were replaced are read before.
    pub async fn sign_in(&self) -> Result<(), Fault> {
        self.connection.renew(&self.endpoint).await;
        self.connection.sign_in().await.map_err(fault)
    }

    /// Renews the login.
    pub async fn sign_in_again(&self) -> Result<(), Fault> {
        self.connection.sign_in_again().await.map_err(fault)
    }

    fn client(&self) -> Arc<Client> {
        self.connection.client()
    }

    /// One page of a listing, linearizable.
    pub async fn page(&self, page: Page) -> Result<Reply, Fault> {
        let mut options =
            GetOptions::new().with_range(page.to).with_limit(i64::try_from(page.limit).unwrap_or(i64::MAX));
        if let Some(revision) = page.revision {
            options = options.with_revision(signed(revision));
        }
        let mut kv = self.client().kv_client().max_decoding_message_size(LARGEST_REPLY);
        let mut answer = kv.get(page.from, Some(options)).await.map_err(fault)?;
        let revision = revision(answer.header())?;
        let more = answer.more();
        let found = answer.take_kvs();
        let more_after = found.last().filter(|_| more).map(|last| last.key().to_vec());
        let entries = found.into_iter().filter_map(|found| entry(&found)).collect();
        Ok(Reply { revision, entries, more_after })
    }

    /// Runs a watch's probe of `range`, linearizable.
    pub async fn probe(&self, range: &KeyRange, probe: Probe) -> Result<ProbeResult, Fault> {
        match probe {
            Probe::Revision(_) => Ok(ProbeResult::At(self.revision(&range.from).await?)),
            Probe::Unchanged(since) => self.unchanged(range, since).await,
        }
    }

    /// The store's revision, by a read of a key that our role may read.
    pub async fn revision(&self, key: &str) -> Result<Revision, Fault> {
        let options = GetOptions::new().with_keys_only();
        let answer = self.client().kv_client().get(first(key), Some(options)).await;
        revision(answer.map_err(fault)?.header())
    }

    /// The range is unchanged if no key was modified after `since` and the number of keys is the same.
    async fn unchanged(&self, range: &KeyRange, since: Revision) -> Result<ProbeResult, Fault> {
        let Some((from, to)) = bounds(range) else {
            return Ok(ProbeResult::At(self.revision(&range.from).await?));
        };
        let count = GetOptions::new().with_range(to.clone()).with_count_only();
        let mut counts = vec![TxnOp::get(from.clone(), Some(count.clone()))];
        // For etcd, revision 0 is the newest one.
        if since > Revision::ZERO {
            counts.push(TxnOp::get(from.clone(), Some(count.with_revision(signed(since)))));
        }
        let old = Compare::mod_revision(from.clone(), CompareOp::Less, signed(since) + 1).with_range(to);
        let txn = etcd_client::Txn::new().when([old]).and_then(counts).or_else([linearizable(from)]);
        let answer = self.client().kv_client().txn(txn).await.map_err(fault)?;
        let counts: Vec<i64> = answer.op_responses().iter().map(count_of).collect();
        let before = counts.get(1).copied().unwrap_or(0);
        if answer.succeeded() && counts.first() == Some(&before) {
            return Ok(ProbeResult::Unchanged(revision(answer.header())?));
        }
        Ok(ProbeResult::Changed)
    }

    /// The keys of non-empty ranges, all at one revision.
    pub async fn read(&self, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<(Revision, Vec<Vec<Entry>>), Fault> {
        let get = |(from, to): &(Vec<u8>, Vec<u8>)| {
            let options = GetOptions::new().with_range(to.clone());
            TxnOp::get(from.clone(), Some(options.with_sort(SortTarget::Key, SortOrder::Ascend)))
        };
        let txn = etcd_client::Txn::new().and_then(ranges.iter().map(get).collect::<Vec<_>>());
        let answer = self.client().kv_client().txn(txn).await.map_err(fault)?;
        let entries = |response: TxnOpResponse| match response {
            TxnOpResponse::Get(get) => get.kvs().iter().filter_map(entry).collect(),
            _ => Vec::new(),
        };
        let ranges = answer.op_responses().into_iter().map(entries).collect();
        Ok((revision(answer.header())?, ranges))
    }

    /// Does a transaction.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, Fault> {
        let guards: Vec<Compare> = txn.guards.iter().filter_map(compare).collect();
        let mut request = etcd_client::Txn::new().when(guards);
        if txn.ops.is_empty() {
            // Without a linearizable operation etcd would compare with this member's local state.
            let key = first(a_key(txn).unwrap_or(""));
            request = request.and_then([linearizable(key.clone())]).or_else([linearizable(key)]);
        } else {
            request = request.and_then(txn.ops.iter().map(operation).collect::<Vec<_>>());
        }
        let answer = self.client().kv_client().txn(request).await.map_err(fault)?;
        let revision = revision(answer.header())?;
        Ok(match answer.succeeded() {
            true => Outcome::Committed(revision),
            false => Outcome::Refused(revision),
        })
    }

    /// Starts a watch of the changes after `after`.
    pub async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Stream, Fault> {
        let (from, to) = bounds(range)
            .ok_or_else(|| Fault { kind: Kind::Refused, text: format!("range {range:?} is empty") })?;
        let options = WatchOptions::new().with_range(to).with_start_revision(signed(after) + 1);
        let mut client = self.client().watch_client().max_decoding_message_size(LARGEST_REPLY);
        let stream = client.watch(from, Some(options)).await.map_err(fault)?;
        Ok(Stream { stream })
    }

    /// Creates a lease with this id; its TTL is in whole seconds, and at least etcd's minimum.
    pub async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<(), Fault> {
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
        let seconds = seconds.clamp(1, LONGEST_TTL).cast_signed();
        let options = LeaseGrantOptions::new().with_id(lease.0.cast_signed());
        let granted = self.client().lease_client().grant(seconds, Some(options)).await;
        granted.map(drop).map_err(fault)
    }

    /// Sends one keep-alive.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<(), Fault> {
        match self.client().lease_client().keep_alive(lease.0.cast_signed()).await {
            // A TTL of zero.
            Err(Error::LeaseKeepAliveError(text)) => Err(Fault { kind: Kind::NoLease, text }),
            answer => answer.map(drop).map_err(fault),
        }
    }

    /// Whether the lease exists.
    pub async fn exists(&self, lease: LeaseId) -> Result<bool, Fault> {
        let asked = self.client().lease_client().time_to_live(lease.0.cast_signed(), None).await;
        Ok(asked.map_err(fault)?.ttl() > 0)
    }

    /// Ends a lease.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), Fault> {
        let revoked = self.client().lease_client().revoke(lease.0.cast_signed()).await;
        revoked.map(drop).map_err(fault)
    }
}

/// A watch's stream. It ends when it is dropped.
pub struct Stream {
    stream: WatchStream,
}

impl Stream {
    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> Result<Message, Fault> {
        match self.stream.message().await {
            Ok(Some(response)) => Ok(message(&response)),
            Ok(None) => Err(Fault { kind: Kind::Broken, text: "the member ended the stream".to_owned() }),
            Err(error) => Err(fault(error)),
        }
    }
}

fn message(response: &WatchResponse) -> Message {
    if response.compact_revision() > 0 {
        return Message::Compacted;
    }
    if response.canceled() {
        return Message::Cancelled(format!("the member ended the watch: {}", response.cancel_reason()));
    }
    let events = response.events().iter();
    let event = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        match event.event_type() {
            EventType::Put => entry(kv).map(Event::Put),
            EventType::Delete => Some(Event::Deleted {
                key: kv.key_str().ok()?.to_owned(),
                revision: unsigned(kv.mod_revision()),
            }),
        }
    };
    Message::Events(events.filter_map(event).collect())
}

/// None if the key is not text: it was not written by Sextant.
fn entry(kv: &KeyValue) -> Option<Entry> {
    let lease = kv.lease().cast_unsigned();
    Some(Entry {
        key: kv.key_str().ok()?.to_owned(),
        value: Bytes::copy_from_slice(kv.value()),
        created: unsigned(kv.create_revision()),
        modified: unsigned(kv.mod_revision()),
        lease: (lease != 0).then_some(LeaseId(lease)),
    })
}

fn operation(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let lease = lease.map_or(0, |lease| lease.0.cast_signed());
            TxnOp::put(key.as_str(), value.to_vec(), Some(PutOptions::new().with_lease(lease)))
        }
        Op::Delete(key) => TxnOp::delete(key.as_str(), None),
    }
}

/// None if it always holds.
fn compare(guard: &Guard) -> Option<Compare> {
    Some(match guard {
        Guard::Absent(key) => Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
        // In etcd, a missing key has revision 0.
        Guard::Unchanged(key, Revision::ZERO) => Compare::create_revision(key.as_str(), CompareOp::Less, 0),
        Guard::Unchanged(key, revision) => {
            Compare::mod_revision(key.as_str(), CompareOp::Equal, signed(*revision))
        }
        Guard::RangeAbsent(range) => {
            let (from, to) = bounds(range)?;
            Compare::create_revision(from, CompareOp::Equal, 0).with_range(to)
        }
        Guard::Holds(key, value) => Compare::value(key.as_str(), CompareOp::Equal, value.to_vec()),
    })
}

/// A key of the transaction; none if it is empty.
pub fn a_key(txn: &Txn) -> Option<&str> {
    let guarded = txn.guards.first().map(Guard::key);
    guarded.or_else(|| txn.ops.first().map(Op::key))
}

/// A read that makes its transaction a linearizable one.
fn linearizable(key: Vec<u8>) -> TxnOp {
    TxnOp::get(key, Some(GetOptions::new().with_keys_only()))
}

fn count_of(response: &TxnOpResponse) -> i64 {
    match response {
        TxnOpResponse::Get(get) => get.count(),
        _ => 0,
    }
}

/// The range in etcd's form; none if it is empty, which etcd cannot express.
pub fn bounds(range: &KeyRange) -> Option<(Vec<u8>, Vec<u8>)> {
    let (from, to) = (first(&range.from), range.to.clone().into_bytes());
    (from < to).then_some((from, to))
}

/// etcd has no empty key.
fn first(key: &str) -> Vec<u8> {
    match key {
        "" => vec![0],
        key => key.as_bytes().to_vec(),
    }
}

fn revision(header: Option<&ResponseHeader>) -> Result<Revision, Fault> {
    let header =
        header.ok_or_else(|| Fault { kind: Kind::Broken, text: "an answer without a header".to_owned() })?;
    Ok(unsigned(header.revision()))
}

fn unsigned(revision: i64) -> Revision {
    Revision(revision.max(0).cast_unsigned())
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX - 1)
}

fn fault(error: Error) -> Fault {
    match error {
        Error::GRpcStatus(status) => {
            let (mut unsent, mut root) = (false, None);
            let mut next = status.source();
            while let Some(cause) = next {
                unsent |= cause.is::<tonic::ConnectError>();
                root = Some(cause.to_string());
                next = cause.source();
            }
            let text = match root {
                Some(root) if !status.message().contains(&root) => format!("{}: {root}", status.message()),
                _ => status.message().to_owned(),
            };
            Fault::of_status(status.code(), &text, unsent)
        }
        error => Fault { kind: Kind::Broken, text: error.to_string() },
    }
}
