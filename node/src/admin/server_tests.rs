#![allow(clippy::unwrap_used)]
use cairn_schema::Meta;
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::admin::ProcessMetrics;

async fn server() -> (AdminServer, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let registry = Registry::new();
    ProcessMetrics::register(&registry, None).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    (AdminServer::start(listen, registry, stopping).await.unwrap(), stop)
}

/// Sends exactly `text` and returns all that comes back.
async fn exchange(server: &AdminServer, text: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses early may reset the connection; what it said before counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(server: &AdminServer, path: &str) -> String {
    exchange(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_starting_process_is_alive_but_not_ready() {
    let (server, stop) = server().await;
    assert!(get(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"reason\":\"starting\""), "{ready}");
    assert!(get(&server, "/v1/status").await.starts_with("HTTP/1.1 503"));
    assert!(get(&server, "/metrics").await.contains("process_resident_memory_bytes"));

    server.serve(Subject::Metadata(Meta::in_memory()));
    server.able().await.unwrap();
    let ready = get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("not served yet"), "{ready}");
    server.open();
    let ready = get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let status = get(&server, "/v1/status").await;
    assert!(status.contains("\"version\""), "{status}");
    for setting in ["/v1/policy", "/v1/rates"] {
        let none = get(&server, setting).await;
        assert!(none.starts_with("HTTP/1.1 404") && none.contains("ask a node"), "{none}");
    }

    stop.send_replace(true);
    let ready = get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"reason\":\"stopping\""), "{ready}");
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let (server, _stop) = server().await;
    for (request, status) in [
        ("POST /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("garbage\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEADER_BYTES)), "431"),
    ] {
        let answer = exchange(&server, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "want {status}: {answer:.200}");
    }
    server.stop().await;
}

/// BND-1: more connections than the bound are closed at once, and the ones before go on.
#[tokio::test]
async fn bnd_1_connections_are_bounded() {
    let (server, _stop) = server().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        // An answer proves that the connection was taken, not only queued.
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read_u8().await.is_ok());
        held.push(stream);
    }
    let mut refused = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut answer = Vec::new();
    let _ = refused.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    drop(held);
    // Their places come back.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&server, "/healthz").await.starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_accepts_nobody_any_more_says_so() {
    let (server, _stop) = server().await;
    assert!(server.ended().now_or_never().is_none());
    server.task.abort();
    server.ended().await;
}
