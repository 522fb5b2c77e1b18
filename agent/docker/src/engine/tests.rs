//! Answers of something in the engine's place.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use super::*;
use crate::watch::{Watch, Watched};

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT: &str = "{\"Type\":\"network\",\"Action\":\"create\",\"Actor\":{\"ID\":\"n1\",\"Attributes\":{\"name\":\"web\"}},\"timeNano\":1}\n";

/// Something that answers each request with the same chunk, again and again, up to a number of times.
struct Fake {
    dir: TempDir,
    written: Arc<AtomicUsize>,
}

impl Fake {
    fn start(chunk: String, times: usize) -> Self {
        Self::ending(chunk, times, "0\r\n\r\n")
    }

    /// It ends each answer with these octets.
    fn ending(chunk: String, times: usize, end: &'static str) -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap(), written: Arc::default() };
        let listener = UnixListener::bind(fake.socket()).unwrap();
        let written = Arc::clone(&fake.written);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
                tokio::spawn(answer(stream, framed, times, end, Arc::clone(&written)));
            }
        });
        fake
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The octets that it could write.
    fn written(&self) -> usize {
        self.written.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn answer(mut stream: UnixStream, framed: String, times: usize, end: &str, written: Arc<AtomicUsize>) {
    let mut request = [0; 4096];
    if let Ok(octets @ 1..) = stream.read(&mut request).await {
        let head = String::from_utf8_lossy(&request[..octets]).to_lowercase();
        assert!(head.starts_with("get /") && head.contains("\r\nhost: docker\r\n"), "{head}");
        let _ = stream.write_all(HEAD).await;
        for _ in 0..times {
            if stream.write_all(framed.as_bytes()).await.is_err() {
                return;
            }
            written.fetch_add(framed.len(), std::sync::atomic::Ordering::SeqCst);
        }
        let _ = stream.write_all(end.as_bytes()).await;
    }
}

#[tokio::test]
async fn an_answer_without_end_is_an_error_that_names_the_limit() {
    let spaces = " ".repeat(1 << 16);
    let fake = Fake::start(format!("{spaces}[{spaces}"), 100_000);
    let engine = Engine::connect(&fake.socket()).await.unwrap();
    for error in [
        engine.networks().await.map(drop).unwrap_err(),
        engine.running(&[]).await.map(drop).unwrap_err(),
        engine.version().await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "it answers with more than 32 MiB");
    }
    // The socket's buffers hold some more.
    assert!(fake.written() < (3 * 34) << 20, "{}", fake.written());
}

/// What the stream of events ends with.
async fn last_of(fake: &Fake) -> String {
    let events = Engine::connect(&fake.socket()).await.unwrap().events();
    let errors: Vec<_> = events.filter_map(async |event| event.err()).collect().await;
    errors.first().map_or("the engine's end".to_owned(), EngineError::to_string)
}

#[tokio::test]
async fn what_is_no_event_is_an_error_and_an_engine_that_goes_is_none() {
    let fake = Fake::start(" ".repeat(1 << 16), 100_000);
    assert_eq!(last_of(&fake).await, "its events: it answers with more than 1 MiB");
    assert!(fake.written() < 3 << 20, "{}", fake.written());

    let invalid = last_of(&Fake::start("{\"Type\": 7}\n".to_owned(), 1)).await;
    assert!(invalid.starts_with("its events: ") && invalid.contains("line 1"), "{invalid}");
    assert_eq!(last_of(&Fake::start(EVENT.to_owned(), 0)).await, "the engine's end");
    assert_eq!(last_of(&Fake::ending(EVENT.to_owned(), 1, "100\r\n{\"Type\"")).await, "the engine's end");
}

/// An engine that tells nonsense has not ended, and leases of no network stay.
#[tokio::test]
async fn an_engine_that_answers_without_end_has_not_ended() {
    let fake = Fake::start(" ".repeat(1 << 16), 100_000);
    let (seen, _looked_at) = tokio::sync::watch::channel(Watched::default());
    let (watch, _fresh) = Watch::new(fake.socket(), seen);
    let mut following = watch.following();
    let task = tokio::spawn(watch.run());
    let after = following.wait_for(|it| it.connections > 1).await.unwrap().clone();
    task.abort();
    assert_eq!((after.ends, after.events), (0, 0));
}

#[tokio::test]
async fn any_number_of_events_and_a_large_answer_are_read() {
    let events = 30_000;
    assert!(events * EVENT.len() > 2 << 20, "more than one event may have");
    let fake = Fake::start(EVENT.to_owned(), events);
    let engine = Engine::connect(&fake.socket()).await.unwrap();
    assert_eq!(engine.events().count().await, events);

    let padding = " ".repeat(1 << 20);
    let fake = Fake::start(format!("[]{padding}"), 1);
    assert_eq!(Engine::connect(&fake.socket()).await.unwrap().networks().await.unwrap(), []);
}
