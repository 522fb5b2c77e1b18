//! One node with a good certificate that floods a controller: the other agents are served, and memory stays bounded.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use sextant_proto::{
    NodeId,
    v1::{
        AgentMessage, BackupPiece, ClaimRequest, ReleaseRequest, SettleRequest,
        admin_service_client::AdminServiceClient, agent_service_client::AgentServiceClient,
    },
};
use sextant_tests::{SECONDS, poll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{bed::Bed, client::Client};

/// By how much the floods may let the controller grow, in KiB: what its calls in progress may hold, and what an allocator keeps.
const GROWTH: u64 = 160 << 10;

/// The peak of the controller's memory in KiB.
fn peak(bed: &Bed) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", bed.controllers[0].process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// h1 with its agent, and the client of another node.
fn start(test: &str) -> (Bed, Client) {
    let mut bed = Bed::start(test, 1);
    let files = bed.member("node/h1", None);
    bed.start_agent(0, &files);
    bed.wait_ready("h1");
    let evil = Client::new(&bed.controllers[0], &bed.member("node/evil", None));
    (bed, evil)
}

/// The agent of h1 has kept its stream, a person is answered, and the controller has not grown without bound.
fn nobody_else_noticed(bed: &Bed, before: u64) {
    let began = Instant::now();
    bed.sextant(&["status"]);
    assert!(began.elapsed() < 5 * SECONDS, "a person waits for {:?}", began.elapsed());
    assert_eq!(bed.node("h1")["connected"], true);
    let connections = bed.agents[0].process.log().matches("\"message\":\"connected to controller\"").count();
    assert_eq!(connections, 1, "{}", bed.agents[0].process.log());
    let grown = peak(bed).saturating_sub(before);
    assert!(grown < GROWTH, "the controller has grown by {grown} KiB");
}

fn claim(node: String) -> ClaimRequest {
    ClaimRequest { node, node_id: NodeId::random().into(), ..ClaimRequest::default() }
}

#[test]
fn ten_thousand_streams_of_one_node_are_refused_beyond_its_share() {
    let (bed, evil) = start("ten thousand streams");
    let before = peak(&bed);
    let agent = AgentServiceClient::new(evil.channel.clone());
    let refused = evil.runtime.block_on(async {
        // Streams without a hello stay open; those beyond the share are refused at once.
        let open = |_| {
            let mut client = agent.clone();
            async move {
                let silent = stream::pending::<AgentMessage>();
                tokio::time::timeout(Duration::from_secs(30), client.sync(silent)).await
            }
        };
        let answers = stream::iter(0..10_000).map(open).buffer_unordered(10_000).collect::<Vec<_>>().await;
        answers
            .into_iter()
            .filter(|it| matches!(it, Ok(Err(status)) if status.code() == Code::ResourceExhausted))
            .count()
    });
    assert!(refused > 9_000, "{refused} of 10000 were refused");
    nobody_else_noticed(&bed, before);
    poll("it is in the audit", 10 * SECONDS, || {
        let events = bed.sextant(&["events", "--node", "evil"]);
        anyhow::ensure!(events.contains("call refused") && events.contains("[limits]"), "{events}");
        anyhow::Ok(())
    });
}

#[test]
fn twenty_thousand_streams_that_are_reset_cost_the_others_nothing() {
    let (bed, evil) = start("stream resets");
    let before = peak(&bed);
    let files = bed.dir("node/evil");
    assert!(files.exists());
    evil.runtime.block_on(async {
        let agent = AgentServiceClient::new(evil.channel.clone());
        for _ in 0..200 {
            let reset = |_| {
                let mut client = agent.clone();
                async move {
                    let settle = SettleRequest { node: "evil".into(), ..SettleRequest::default() };
                    let call = client.settle(settle);
                    // Dropped in progress: HEADERS, then RST_STREAM.
                    drop(tokio::time::timeout(Duration::from_micros(300), call).await);
                }
            };
            stream::iter(0..100).map(reset).buffer_unordered(100).collect::<Vec<_>>().await;
        }
    });
    nobody_else_noticed(&bed, before);
}

#[test]
fn messages_of_64_mib_are_refused_before_they_are_received() {
    let (bed, evil) = start("large messages");
    let before = peak(&bed);
    let large = |client: &AgentServiceClient<Channel>| {
        let mut client = client.clone();
        async move { client.claim(claim("x".repeat(64 << 20))).await.map(drop) }
    };
    let agent = AgentServiceClient::new(evil.channel.clone());
    let answers = evil.runtime.block_on(async {
        stream::iter(0..8).map(|_| large(&agent)).buffer_unordered(8).collect::<Vec<_>>().await
    });
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    nobody_else_noticed(&bed, before);
    let small = ReleaseRequest { node: "evil".into(), ..ReleaseRequest::default() };
    let mut client = Client::new(&bed.controllers[0], &bed.member("node/evil", None));
    let status: Status =
        client.runtime.block_on(AgentServiceClient::new(client.channel.clone()).release(small)).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}: it is answered again");
    client.channel = evil.channel;
}

#[test]
fn slow_handshakes_and_many_connections_delay_nobody() {
    let (bed, _evil) = start("slow handshakes");
    let before = peak(&bed);
    let address: SocketAddr = bed.controllers[0].url().trim_start_matches("http://").parse().unwrap();
    let host = bed.hosts[0].clone();
    // The begin of a ClientHello, and nothing more.
    let slow = || -> anyhow::Result<Vec<TcpStream>> {
        (0..400)
            .map(|_| {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(&[22, 3, 1, 2, 0, 1])?;
                stream.set_read_timeout(Some(30 * SECONDS))?;
                Ok(stream)
            })
            .collect()
    };
    let open = host.enter(slow).unwrap().unwrap();
    nobody_else_noticed(&bed, before);
    // Each is closed for want of a call.
    for mut stream in open {
        let ended = stream.read(&mut [0; 64]);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{ended:?}");
    }
    // Connections of one certificate beyond its share are closed after the handshake.
    let files = bed.member("node/evil", None);
    let mut served = Vec::new();
    for _ in 0..40 {
        let client = Client::new(&bed.controllers[0], &files);
        let answer = client
            .runtime
            .block_on(AgentServiceClient::new(client.channel.clone()).claim(claim("evil".into())));
        served.push((
            answer.is_ok() || answer.is_err_and(|status| status.code() == Code::AlreadyExists),
            client,
        ));
    }
    let count = served.iter().filter(|(served, _)| *served).count();
    assert!((20..=32).contains(&count), "{count} of 40 connections were served");
    nobody_else_noticed(&bed, before);
}

/// Two uploads of 150 MiB took 300 MiB of memory once.
#[test]
fn one_backup_is_received_at_a_time_and_not_into_memory() {
    const PIECE: usize = 256 << 10;
    let bed = Bed::start("large uploads", 0);
    let admin = Client::new(&bed.controllers[0], &bed.admin);
    let before = peak(&bed);
    let client = AdminServiceClient::new(admin.channel.clone());
    admin.runtime.block_on(async {
        let (pieces, to_send) = mpsc::channel(4);
        let mut first = client.clone();
        let upload = tokio::spawn(async move { first.restore(ReceiverStream::new(to_send)).await });
        let mut octets = b"sextant backup\0".to_vec();
        octets.resize(PIECE, 0);
        for _ in 0..600 {
            pieces.send(BackupPiece { octets: octets.clone().into() }).await.unwrap();
        }
        let second = client.clone().restore(stream::iter([BackupPiece { octets: octets.into() }])).await;
        let refused = second.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(refused.message().contains("another backup is being restored"), "{refused}");
        upload.abort();
    });
    let grown = peak(&bed).saturating_sub(before);
    assert!(grown < 48 << 10, "the controller has grown by {grown} KiB");
    poll("the next one is received", 10 * SECONDS, || {
        let piece = BackupPiece { octets: b"no backup at all".to_vec().into() };
        let status = admin.runtime.block_on(client.clone().restore(stream::iter([piece]))).unwrap_err();
        anyhow::ensure!(status.code() == Code::InvalidArgument, "{status}");
        anyhow::Ok(())
    });
}

/// 12,000 claims within 8 s washed out the whole audit once.
#[test]
fn a_node_claims_so_often_a_minute_and_no_more() {
    let bed = Bed::start_with("claim flood", 0, &["--limits-claims", "30", "--audit-entries", "100"]);
    let evil = Client::new(&bed.controllers[0], &bed.member("node/evil", None));
    let agent = AgentServiceClient::new(evil.channel.clone());
    let claim = claim("evil".into());
    let codes = evil.runtime.block_on(async {
        let ask = |_| {
            let (mut client, claim) = (agent.clone(), claim.clone());
            async move { client.claim(claim).await.map_or_else(|status| status.code(), |_| Code::Ok) }
        };
        stream::iter(0..400).map(ask).buffered(1).collect::<Vec<_>>().await
    });
    let granted = codes.iter().filter(|code| **code == Code::Ok).count();
    assert!((30..40).contains(&granted), "{granted} of 400 were answered");
    assert!(codes.iter().all(|code| [Code::Ok, Code::ResourceExhausted].contains(code)), "{codes:?}");
    let events = bed.sextant(&["events"]);
    assert!(events.contains("pool added") && events.lines().count() < 20, "{events}");
    // No agent may have a large part of the pool.
    let wide = ClaimRequest { host_len: 41, ..self::claim("wide".into()) };
    let other = Client::new(&bed.controllers[0], &bed.member("node/wide", None));
    let refused =
        other.runtime.block_on(AgentServiceClient::new(other.channel.clone()).claim(wide)).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("`shorter-host-len` in [limits]"), "{refused}");
}
