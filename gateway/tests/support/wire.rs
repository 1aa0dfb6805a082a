//! HTTP/1.1 by hand over a TCP stream: clients that break rules are easiest written without one that keeps them.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Nothing in these tests may take longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What stands between the first `<name>` and `</name>`.
    pub(crate) fn xml(&self, name: &str) -> String {
        xml_all(&self.text(), name).into_iter().next().unwrap_or_default()
    }

    /// All of them.
    pub(crate) fn xml_all(&self, name: &str) -> Vec<String> {
        xml_all(&self.text(), name)
    }

    /// The error code of an error document.
    pub(crate) fn code(&self) -> String {
        self.xml("Code")
    }
}

fn xml_all(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once(&open) {
        let Some((inner, tail)) = tail.split_once(&close) else { break };
        found.push(inner.to_owned());
        rest = tail;
    }
    found
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The connection ended before an answer began.
    Closed,
    /// The connection ended in the middle of an answer, after this much of its body.
    Broken { head: String, body_bytes: usize },
}

/// TCP, or what lies over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connect to the gateway");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// From another of this machine's addresses.
    pub(crate) async fn connect_from(local: &str, address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(local.parse().unwrap(), 0)).unwrap();
        let connected = tokio::time::timeout(DEADLINE, socket.connect(address)).await;
        let stream = connected.expect("connecting took too long").expect("connect to the gateway");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self::over(stream)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("send to the gateway");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within(self.stream.write_all(bytes.as_ref())).await
    }

    /// Ends the sending side, as a client that dies.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn more(&mut self) -> bool {
        self.read.reserve(65_536);
        !matches!(within(self.stream.read_buf(&mut self.read)).await, Ok(0) | Err(_))
    }

    /// Waits until so many bytes of an answer have come.
    pub(crate) async fn read_at_least(&mut self, bytes: usize) {
        while self.read.len() < bytes {
            assert!(self.more().await, "the connection ended after {} bytes", self.read.len());
        }
    }

    /// True when the gateway closes the connection without a word.
    pub(crate) async fn closes(&mut self) -> bool {
        while self.more().await {}
        self.read.is_empty()
    }

    /// Waits until the gateway ends the connection, whatever it still says.
    pub(crate) async fn ends(&mut self) {
        while self.more().await {}
    }

    /// Takes one byte off the wire, if there is one.
    pub(crate) async fn read_one_byte(&mut self) {
        let mut byte = [0; 1];
        if let Ok(Ok(1)) = tokio::time::timeout(Duration::ZERO, self.stream.read(&mut byte)).await {
            self.read.push(byte[0]);
        }
    }

    /// Whether something of an answer has come, or comes within `wait`.
    pub(crate) async fn has_answer(&mut self, wait: Duration) -> bool {
        if self.read.is_empty() {
            let _ = tokio::time::timeout(wait, self.stream.read_buf(&mut self.read)).await;
        }
        !self.read.is_empty()
    }

    /// One answer; the body of a HEAD's answer must be `None`.
    pub(crate) async fn answer(&mut self, with_body: bool) -> Result<Answer, WireError> {
        let head_end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return Err(WireError::Closed);
            }
        };
        let head = String::from_utf8_lossy(&self.read[..head_end]).into_owned();
        self.read.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status: status.expect("a status line"), headers, body: Vec::new() };
        let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
        let chunked = answer.header("transfer-encoding").is_some();
        if with_body && answer.status >= 200 && answer.status != 204 && answer.status != 304 {
            assert!(!chunked, "no answer of the gateway is chunked: {head}");
            let length = length.expect("a content length");
            while self.read.len() < length {
                if !self.more().await {
                    return Err(WireError::Broken { head, body_bytes: self.read.len() });
                }
            }
            answer.body = self.read.drain(..length).collect();
        }
        Ok(answer)
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the gateway takes too long")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
