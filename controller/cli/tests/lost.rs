//! The process `sextant` and a controller that dies between a request and its answer.

#![allow(clippy::unwrap_used)]

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

/// An empty SETTINGS frame (RFC 9113 §6.5), which a server begins with.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The length of the preface that a client begins with (RFC 9113 §3.4).
const PREFACE: usize = 24;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads up to the end of the first request.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&SETTINGS).await?;
    stream.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, ..] = header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        stream.read_exact(&mut vec![0; length]).await?;
        if kind == DATA && flags & END_STREAM != 0 {
            return Ok(());
        }
    }
}

/// A server whose connections end with the first request, as those of a process that was killed.
async fn dying() -> String {
    let (listener, url) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await.unwrap();
        }
    });
    url
}

/// A server that counts its connections, and closes them.
async fn counting() -> (String, Arc<AtomicUsize>) {
    let ((listener, url), count) = (bind().await, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (url, count)
}

/// Exit code and standard error.
async fn sextant(controllers: &str, command: &str) -> (i32, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_sextant"));
    process.args(["--controller", controllers]).args(command.split(' '));
    process.env_remove("SEXTANT_CONTROLLER").env_remove("SEXTANT_INSECURE");
    let Output { status, stderr, .. } = process.output().await.unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_made_again_by_the_next_controller() {
    let (dying, (next, connections)) = (dying().await, counting().await);
    let (code, error) = sextant(&format!("{dying},{next}"), "node drain host1").await;
    assert_eq!(code, 5, "{error}");
    assert!(error.contains("connection lost: "), "{error}");
    assert!(error.contains("the change may have been made: check with `sextant status`"), "{error}");
    assert!(!error.contains("not as a sextant-controller"), "it was one: {error}");
    assert_eq!(connections.load(Ordering::Relaxed), 0, "{error}");
}

#[tokio::test]
async fn a_read_is_repeated_at_the_next_controller() {
    let (dying, (next, connections)) = (dying().await, counting().await);
    let (code, error) = sextant(&format!("{dying},{next}"), "status").await;
    assert_eq!(code, 5, "{error}");
    assert!(error.contains(&format!("controller {dying}: connection lost: ")), "{error}");
    assert_ne!(connections.load(Ordering::Relaxed), 0, "{error}");
}
