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
        let fake = Self { dir: tempfile::tempdir().unwrap(), written: Arc::default() };
        let listener = UnixListener::bind(fake.socket()).unwrap();
        let written = Arc::clone(&fake.written);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, chunk.clone(), times, Arc::clone(&written)));
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

async fn answer(mut stream: UnixStream, chunk: String, times: usize, written: Arc<AtomicUsize>) {
    let mut request = [0; 4096];
    if let Ok(octets @ 1..) = stream.read(&mut request).await {
        let head = String::from_utf8_lossy(&request[..octets]).to_lowercase();
        assert!(head.starts_with("get /") && head.contains("\r\nhost: docker\r\n"), "{head}");
        let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        let _ = stream.write_all(HEAD).await;
        for _ in 0..times {
            if stream.write_all(framed.as_bytes()).await.is_err() {
                return;
            }
            written.fetch_add(framed.len(), std::sync::atomic::Ordering::SeqCst);
        }
        let _ = stream.write_all(b"0\r\n\r\n").await;
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
    assert!(fake.written() < 3 * 34 << 20, "{}", fake.written());
}

#[tokio::test]
async fn an_event_without_end_ends_the_stream() {
    let fake = Fake::start("{\"Type\":\"network\", ".to_owned() + &" ".repeat(1 << 16), 100_000);
    let engine = Engine::connect(&fake.socket()).await.unwrap();
    assert!(engine.events().next().await.is_none());
    assert!(fake.written() < 3 << 20, "{}", fake.written());
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
