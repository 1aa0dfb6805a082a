//! A webhook on a real socket: it hears what it is told, in order, and fails, refuses and hangs as tests want.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_actors::background::DeliveryTerms;
use cairn_gateway::{EventOptions, EventTargets, WebhookOptions};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::wire::DEADLINE;

/// How it is now.
#[derive(Default)]
pub(crate) struct State {
    /// What it took, in order.
    pub heard: Vec<Value>,
    /// Messages that came, taken or not.
    pub asked: usize,
    /// The authorization of the last message.
    pub authorization: Option<String>,
    /// It answers everything so.
    pub answers: Option<u16>,
    /// It reads and never answers.
    pub hangs: bool,
    /// Every second message fails, be it taken as it may.
    pub stutters: bool,
}

pub(crate) struct Webhook {
    pub state: Arc<Mutex<State>>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { state, address, task }
    }

    pub(crate) fn options(&self, name: &str) -> WebhookOptions {
        WebhookOptions {
            name: name.into(),
            url: format!("http://{}/hook?a=b", self.address),
            token_file: None,
            ca_pem: None,
            // Longer than this machine may take, and not too long for a test to wait for.
            timeout: Duration::from_secs(4),
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    /// Event names and keys of all records that it took, in order.
    pub(crate) fn told(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let state = self.state.lock();
        let records = state.heard.iter().filter_map(|message| message["Records"].get(0));
        records.map(|record| (text(&record["eventName"]), text(&record["s3"]["object"]["key"]))).collect()
    }

    /// Waits until what it is like is so.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !condition(&self.state.lock()) {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}; it took {:?}", self.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Targets that are tried again soon.
pub(crate) fn targets(webhooks: Vec<WebhookOptions>, refusals: u32) -> EventTargets {
    let pause = Duration::from_millis(50);
    let terms = DeliveryTerms { refusals, first_pause: pause, longest_pause: pause, ..DeliveryTerms::default() };
    EventTargets::new(EventOptions { webhooks, terms, region: "us-east-1".into() }).unwrap()
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut received = Vec::new();
    while let Some((head, body)) = message(&mut stream, &mut received).await {
        let (status, hangs) = {
            let mut state = state.lock();
            state.asked += 1;
            let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            state.authorization = authorization.map(ToOwned::to_owned);
            let stutters = state.stutters && state.asked.is_multiple_of(2);
            let status = if stutters { 500 } else { state.answers.unwrap_or(200) };
            if status == 200 && !state.hangs {
                assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
                state.heard.push(serde_json::from_slice(&body).unwrap());
            }
            (status, state.hangs)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let answer = format!("HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next message of a connection: its head in lower-case names, as hyper sends it, and its body.
async fn message(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(received[..end + 2].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if received.len() >= whole {
                let body = received[end + 4..whole].to_vec();
                received.drain(..whole);
                return Some((head, body));
            }
        }
        if stream.read_buf(received).await.ok()? == 0 {
            return None;
        }
    }
}
