//! `Expect: 100-continue` in every combination. Clients built on botocore go wrong when a final answer comes without
//! "100 Continue" on a connection that lives on: the next request there hangs until its timeout.

use http_body_util::Full;

use super::{
    wire::{Answer, Wire},
    *,
};

/// A request's body, as its headers announce it and as it is sent.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// `content-length: 0`.
    Empty,
    /// Neither a length nor an encoding.
    None,
    Sized,
    Chunked,
}

impl Body {
    const ALL: [Self; 4] = [Self::Empty, Self::None, Self::Sized, Self::Chunked];

    fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::None)
    }

    /// The status of an upload without a length is always the same.
    fn status(self, otherwise: u16) -> u16 {
        if matches!(self, Self::None) { 411 } else { otherwise }
    }

    fn headers(self) -> &'static str {
        match self {
            Self::Empty => "content-length: 0\r\n",
            Self::None => "",
            Self::Sized => "content-length: 3\r\n",
            Self::Chunked => "transfer-encoding: chunked\r\n",
        }
    }

    fn bytes(self) -> &'static str {
        match self {
            Self::Empty | Self::None => "",
            Self::Sized => "abc",
            Self::Chunked => "3\r\nabc\r\n0\r\n\r\n",
        }
    }
}

fn put(key: &str, version: &str, expect: &str, body: Body) -> String {
    let connection = if version == "1.0" { "connection: keep-alive\r\n" } else { "" };
    format!("PUT /bucket/{key} HTTP/{version}\r\nhost: h\r\n{connection}{expect}{}\r\n", body.headers())
}

const EXPECT: &str = "expect: 100-continue\r\n";

fn closes(answer: &Answer) -> bool {
    answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// What must hold after an answer: the connection serves another request, or said that it ends, and does.
async fn lives_or_ends_as_said(mut wire: Wire, answer: &Answer, what: &str) {
    if closes(answer) {
        assert!(wire.closes().await, "{what}: it said that it closes");
        return;
    }
    wire.send(put("next", "1.1", EXPECT, Body::Empty)).await;
    assert_eq!(wire.answer(true).await.unwrap().status, 100, "{what}: the next request");
    assert_eq!(wire.answer(true).await.unwrap().status, 200, "{what}: the next request");
    wire.send(GET).await;
    assert_eq!(wire.answer(true).await.unwrap().body.len(), 2000, "{what}: the one after it");
}

#[tokio::test]
async fn a_final_answer_without_100_continue_ends_the_connection() {
    let running = run(|_| ());
    for body in Body::ALL {
        for (key, status) in [("k", 200), ("refused", 404), ("partly", 404)] {
            let what = format!("{body:?} {key}");
            let mut wire = running.wire().await;
            wire.send(put(key, "1.1", EXPECT, body)).await;
            let mut answer = wire.answer(true).await.unwrap();
            // A body that nobody wants is not asked for; one without bytes costs nothing.
            assert_eq!(answer.status == 100, body.is_empty() || key != "refused", "{what}");
            let continued = answer.status == 100;
            if continued {
                wire.send(body.bytes()).await;
                answer = wire.answer(true).await.unwrap();
            }
            assert_eq!(answer.status, body.status(status), "{what}");
            assert_eq!(closes(&answer), !continued, "{what}");
            lives_or_ends_as_said(wire, &answer, &what).await;
        }
    }
}

#[tokio::test]
async fn clients_that_do_not_wait_for_100_continue_are_served_too() {
    let running = run(|_| ());
    for body in Body::ALL {
        for (key, status) in [("k", 200), ("refused", 404), ("partly", 404)] {
            let what = format!("{body:?} {key}");
            let mut wire = running.wire().await;
            wire.send(put(key, "1.1", EXPECT, body) + body.bytes()).await;
            let mut answer = wire.answer(true).await.unwrap();
            if answer.status == 100 {
                answer = wire.answer(true).await.unwrap();
            }
            assert_eq!(answer.status, body.status(status), "{what}");
            lives_or_ends_as_said(wire, &answer, &what).await;
        }
    }
}

#[tokio::test]
async fn http_1_0_has_no_expectations() {
    let running = run(|_| ());
    for body in [Body::Empty, Body::None, Body::Sized] {
        for (key, status) in [("k", 200), ("refused", 404), ("partly", 404)] {
            let what = format!("{body:?} {key}");
            let mut wire = running.wire().await;
            wire.send(put(key, "1.0", EXPECT, body) + body.bytes()).await;
            let answer = wire.answer(true).await.unwrap();
            assert_eq!(answer.status, body.status(status), "{what}");
            lives_or_ends_as_said(wire, &answer, &what).await;
        }
    }
}

#[tokio::test]
async fn http_2_serves_requests_with_an_expectation() {
    let running = run(|_| ());
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let address = running.gateway.local_addr();
    for (body, key, status) in
        [("", "k", 200), ("abc", "k", 200), ("", "refused", 404), ("abc", "refused", 404), ("abc", "k", 200)]
    {
        let request = http::Request::put(format!("http://{address}/bucket/{key}")).header("expect", "100-continue");
        let answer = client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (status, http::Version::HTTP_2), "{body} {key}");
    }
}

#[tokio::test]
async fn an_unknown_expectation_is_refused() {
    let running = run(|_| ());
    for body in Body::ALL {
        let mut wire = running.wire().await;
        wire.send(put("k", "1.1", "expect: tea\r\n", body) + body.bytes()).await;
        let answer = wire.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (417, "ExpectationFailed"), "{body:?}");
        lives_or_ends_as_said(wire, &answer, &format!("{body:?}")).await;
    }
}

/// "100 Continue" of a request must not fall into the answer before it, which is on its way still.
#[tokio::test]
async fn con_2_a_pipelined_expectation_is_answered_after_the_answer_before_it() {
    let running = run(|_| ());
    let mut wire = running.wire().await;
    let get = GET.replace("whole", "large");
    wire.send(get.clone() + &put("k", "1.1", EXPECT, Body::Empty) + &get).await;
    for wanted in [(200, LARGE_BYTES), (100, 0), (200, 0), (200, LARGE_BYTES)] {
        let answer = wire.answer(true).await.unwrap();
        assert!(answer.body.iter().all(|&byte| byte == 7));
        assert_eq!((answer.status, answer.body.len()), wanted);
    }
}

#[tokio::test]
async fn a_client_that_sends_an_unwanted_body_anyway_still_reads_its_answer() {
    let running = run(|options| options.limits.requests_in_flight = 1);
    let large = "PUT /bucket/refused HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 8388608\r\n\r\n";
    let mut wire = running.wire().await;
    wire.send(large).await;
    for _ in 0..8 {
        wire.send(vec![0; 1 << 20]).await;
    }
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str(), closes(&answer)), (404, "NoSuchBucket", true));

    // Of one that is refused because there are too many requests, no expectation asked for.
    let _busy = running.waiting_put().await;
    let mut wire = running.wire().await;
    wire.send("PUT /bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 8388608\r\n\r\n").await;
    for _ in 0..8 {
        wire.send(vec![0; 1 << 20]).await;
    }
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str(), closes(&answer)), (503, "SlowDown", true));
}
