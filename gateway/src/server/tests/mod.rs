//! The server under the S3 service, over a service of its own that can be told to wait and to fail.

#![allow(clippy::unwrap_used)]

mod expect;
mod slow;
#[path = "../../../tests/support/wire.rs"]
#[allow(dead_code)]
mod wire;

use bytes::Bytes;
use cairn_actors::StoreError;
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioIo};
use s3s::{S3, S3Request, S3Response, S3Result, dto::*, s3_error, service::S3ServiceBuilder};
use tokio::{net::TcpStream, sync::Semaphore};
use wire::{Wire, WireError};

use super::*;
use crate::{body::ObjectBody, error::from_store};

/// PUT of `gated` waits for a permit; of `refused` fails unread; of `partly` fails after the first bytes; of others
/// reads the body. GET of `broken` breaks off half way, once it has a permit; of `large` has [`LARGE_BYTES`].
struct Scripted {
    gate: Arc<Semaphore>,
    started: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl S3 for Scripted {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.started.add_permits(1);
        match request.input.key.as_str() {
            "gated" => self.gate.acquire().await.unwrap().forget(),
            "refused" => return Err(s3_error!(NoSuchBucket)),
            "partly" => {
                request.input.body.unwrap().next().await;
                return Err(s3_error!(NoSuchBucket));
            }
            _ => {
                let mut body = request.input.body.unwrap();
                while let Some(chunk) = body.next().await {
                    chunk.map_err(|error| from_store(StoreError::Body(error)))?;
                }
            }
        }
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        const CHUNK: Bytes = Bytes::from_static(&[7; 1000]);
        const PIECE: Bytes = Bytes::from_static(&[7; 1 << 20]);
        if request.input.key == "large" {
            let pieces = LARGE_BYTES / PIECE.len();
            let items = futures::stream::iter((0..pieces).map(|_| Ok(PIECE)));
            let body = s3s::Body::http_body_unsync(ObjectBody::new(Box::pin(items), LARGE_BYTES as u64));
            let output = GetObjectOutput { body: Some(body.into()), ..Default::default() };
            return Ok(S3Response::new(output));
        }
        let (gate, broken) = (self.gate.clone(), request.input.key == "broken");
        let second = async move {
            if broken {
                gate.acquire().await.unwrap().forget();
                return Err(StoreError::Timeout("fragment"));
            }
            Ok(CHUNK)
        };
        let items = futures::stream::iter([Ok(CHUNK)]).chain(futures::stream::once(second));
        let body = s3s::Body::http_body_unsync(ObjectBody::new(Box::pin(items), 2000));
        let output = GetObjectOutput { body: Some(body.into()), content_length: Some(2000), ..Default::default() };
        Ok(S3Response::new(output))
    }
}

const LARGE_BYTES: usize = 64 << 20;

struct Running {
    gateway: Gateway,
    gate: Arc<Semaphore>,
    started: Arc<Semaphore>,
    registry: prometheus::Registry,
}

fn run(change: impl FnOnce(&mut GatewayOptions)) -> Running {
    let mut options = GatewayOptions::new("127.0.0.1:0".parse().unwrap(), "key", "secret");
    change(&mut options);
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let registry = options.metrics.clone();
    let s3 = S3ServiceBuilder::new(Scripted { gate: gate.clone(), started: started.clone() }).build();
    let metrics = crate::metrics::Metrics::register(&options.metrics).unwrap();
    Running { gateway: Gateway::serve(s3, options, metrics).unwrap(), gate, started, registry }
}

impl Running {
    async fn wire(&self) -> Wire {
        Wire::connect(self.gateway.local_addr()).await
    }

    /// A PUT that is being answered and waits.
    async fn waiting_put(&self) -> Wire {
        let mut wire = self.wire().await;
        wire.send("PUT /bucket/gated HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").await;
        self.started.acquire().await.unwrap().forget();
        wire
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let Some(family) = families.iter().find(|family| family.name() == name) else { return 0.0 };
        let matching = family.get_metric().iter().filter(|metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
            })
        });
        matching.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

#[tokio::test]
async fn a_gateway_that_accepts_nobody_any_more_says_so() {
    let running = run(|_| ());
    assert!(running.gateway.ended().now_or_never().is_none());
    running.gateway.accepting.abort();
    running.gateway.ended().await;
}

const GET: &str = "GET /bucket/whole HTTP/1.1\r\nhost: h\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_request_after_request_each_with_an_id() {
    let running = run(|_| ());
    let mut wire = running.wire().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        wire.send(GET).await;
        let answer = wire.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 2000));
        ids.push(answer.header("x-amz-request-id").unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn bnd_1_requests_over_the_limit_are_told_to_slow_down() {
    let running = run(|options| options.limits.requests_in_flight = 1);
    let mut first = running.waiting_put().await;
    let mut second = running.wire().await;
    second.send(GET).await;
    let refused = second.answer(true).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "SlowDown"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.xml("RequestId"), refused.header("x-amz-request-id").unwrap());
    running.gate.add_permits(1);
    assert_eq!(first.answer(true).await.unwrap().status, 200);
    second.send(GET).await;
    assert_eq!(second.answer(true).await.unwrap().status, 200);
    assert_eq!(running.metric("cairn_gateway_refused_requests_total", &[]), 1.0);
}

#[tokio::test]
async fn bnd_1_connections_over_the_limit_are_closed() {
    let running = run(|options| options.limits.connections = 1);
    let mut first = running.wire().await;
    first.send(GET).await;
    first.answer(true).await.unwrap();
    assert!(running.wire().await.closes().await);
    first.send(GET).await;
    assert_eq!(first.answer(true).await.unwrap().status, 200);
}

#[tokio::test]
async fn con_2_a_body_that_breaks_off_breaks_the_connection() {
    let running = run(|_| ());
    let mut wire = running.wire().await;
    wire.send(GET.replace("whole", "broken")).await;
    wire.read_at_least(1000).await;
    running.gate.add_permits(1);
    match wire.answer(true).await {
        Err(WireError::Broken { head, body_bytes }) => {
            assert!(head.contains("200 OK") && head.contains("content-length: 2000"), "{head}");
            assert!(body_bytes <= 1000, "{body_bytes}");
        }
        other => panic!("a broken body came as {other:?}"),
    }
}

#[tokio::test]
async fn con_2_a_body_that_breaks_off_resets_its_http2_stream() {
    let running = run(|_| ());
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let address = running.gateway.local_addr();
    let get = |key: &str| client.get(format!("http://{address}/bucket/{key}").parse().unwrap());
    let whole = get("whole").await.unwrap();
    assert_eq!(whole.version(), http::Version::HTTP_2);
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes().len(), 2000);
    let broken = get("broken").await.unwrap();
    running.gate.add_permits(1);
    assert!(broken.into_body().collect().await.is_err());
    assert_eq!(get("whole").await.unwrap().status(), 200);
}

#[tokio::test]
async fn bnd_1_oversized_headers_are_refused() {
    let running = run(|options| options.limits.header_bytes = 8192);
    let mut wire = running.wire().await;
    wire.send(format!("GET /bucket/whole HTTP/1.1\r\nhost: h\r\nx-a: {}\r\n\r\n", "y".repeat(9000))).await;
    assert_eq!(wire.answer(true).await.unwrap().code(), "RequestHeaderSectionTooLarge");
    let mut wire = running.wire().await;
    let many: String = (0..300).map(|number| format!("x-{number}: y\r\n")).collect();
    wire.send(format!("GET /bucket/whole HTTP/1.1\r\nhost: h\r\n{many}\r\n")).await;
    assert_eq!(wire.answer(true).await.unwrap().status, 431);
}

#[tokio::test]
async fn a_client_that_keeps_sending_still_reads_the_error_it_was_answered() {
    let running = run(|_| ());
    let mut wire = running.wire().await;
    wire.send("PUT /bucket/refused HTTP/1.1\r\nhost: h\r\ncontent-length: 8388608\r\n\r\n").await;
    for _ in 0..8 {
        wire.send(vec![0; 1 << 20]).await;
    }
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (404, "NoSuchBucket"));
    assert_eq!(answer.xml("Resource"), "/bucket/refused");
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_accepts_no_more() {
    let running = run(|_| ());
    let address = running.gateway.local_addr();
    let mut wire = running.waiting_put().await;
    let Running { gateway, gate, .. } = running;
    let stopping = tokio::spawn(gateway.stop(wire::DEADLINE));
    // The listener is closed as soon as stopping has begun.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    gate.add_permits(1);
    assert_eq!(wire.answer(true).await.unwrap().status, 200);
    stopping.await.unwrap();
}

#[tokio::test]
async fn stopping_closes_what_does_not_finish_within_the_grace() {
    let running = run(|_| ());
    let mut wire = running.waiting_put().await;
    running.gateway.stop(Duration::from_millis(50)).await;
    assert!(matches!(wire.answer(true).await, Err(WireError::Closed)));
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_status() {
    let running = run(|_| ());
    let mut wire = running.wire().await;
    wire.send("PUT /bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc").await;
    wire.answer(true).await.unwrap();
    wire.send(GET.replace("whole", "broken")).await;
    running.gate.add_permits(1);
    wire.answer(true).await.unwrap_err();
    let requests = |status| running.metric("cairn_gateway_requests_total", &[("status", status)]);
    let deadline = tokio::time::Instant::now() + wire::DEADLINE;
    while requests("aborted") < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "the broken GET was never counted");
        tokio::task::yield_now().await;
    }
    assert_eq!(requests("200"), 1.0);
    // An error that HEAD has no body for is an answer all the same.
    let mut wire = running.wire().await;
    wire.send("HEAD /bucket/k HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert_eq!(wire.answer(false).await.unwrap().status, 501);
    assert!(wire.closes().await);
    assert_eq!((requests("501"), requests("aborted")), (1.0, 1.0));
    assert_eq!(running.metric("cairn_gateway_received_bytes_total", &[]), 3.0);
    assert_eq!(running.metric("cairn_gateway_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn tls_serves_http2_and_http1() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let pems = (made.cert.pem(), made.signing_key.serialize_pem());
    let running = run(|options| options.tls = Some(pems));
    for (offered, version) in [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![offered.as_bytes().to_vec()];
        let tcp = TcpStream::connect(running.gateway.local_addr()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(offered.as_bytes()));
        let request = http::Request::get("https://localhost/bucket/whole")
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let io = TokioIo::new(tls);
        let answer = if offered == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 2000);
    }
}
