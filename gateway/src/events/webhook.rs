//! Webhooks: each message is the body of a POST to one address; an answer of 2xx takes it.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_actors::background::Undelivered;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::target::{TIMEOUTS, Target};
use crate::outbound;

/// Connections that are kept for the next message, and messages under way.
const MOST_AT_ONCE: usize = 8;
/// Nobody reads what a target says besides its status.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// A webhook, as an operator names it.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// What buckets' configurations call it, in an ARN.
    pub name: String,
    /// `https://HOST[:PORT]/PATH`, or `http://`.
    pub url: String,
    /// A file whose first line is sent as a bearer token. It is read again for each message.
    pub token_file: Option<PathBuf>,
    /// Whose certificates are believed, PEM: for https.
    pub ca_pem: Option<String>,
    /// Of one message, connection included.
    pub timeout: Duration,
}

/// Options that no webhook can be called by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("the url must be https://HOST[:PORT]/PATH or http://HOST[:PORT]/PATH, without a user and a fragment")]
    Url,
    #[error("an https url needs the CA that signed its certificate (ca_file)")]
    NoCa,
    #[error("a ca_file is of no use to an http url")]
    UselessCa,
    #[error("the CA cannot be used: {0}")]
    Ca(String),
    #[error("a token would be sent in the clear: an http url may have one only on this machine (a loopback address)")]
    TokenInTheClear,
    #[error("the timeout must be 100 ms to 30 s")]
    Timeout,
}

/// A connection, and what drives it until it is dropped.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

pub(super) struct Webhook {
    options: WebhookOptions,
    host: String,
    port: u16,
    /// As the header `Host` names it.
    authority: String,
    /// Path and query.
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    at_once: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Webhook {
    pub(super) fn new(options: WebhookOptions) -> Result<Self, WebhookError> {
        let uri: Uri = options.url.parse().map_err(|_| WebhookError::Url)?;
        let authority = uri.authority().ok_or(WebhookError::Url)?;
        if authority.as_str().contains('@') || options.url.contains('#') || uri.host().is_none_or(str::is_empty) {
            return Err(WebhookError::Url);
        }
        if !TIMEOUTS.contains(&options.timeout) {
            return Err(WebhookError::Timeout);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, default_port) = match uri.scheme_str() {
            Some("https") => {
                let ca = options.ca_pem.as_deref().ok_or(WebhookError::NoCa)?;
                let name = ServerName::try_from(host.clone()).map_err(|_| WebhookError::Url)?;
                (Some((outbound::connector(ca).map_err(WebhookError::Ca)?, name)), 443)
            }
            Some("http") if options.ca_pem.is_some() => return Err(WebhookError::UselessCa),
            Some("http") if options.token_file.is_some() && !outbound::is_here(&host) => {
                return Err(WebhookError::TokenInTheClear);
            }
            Some("http") => (None, 80),
            _ => return Err(WebhookError::Url),
        };
        let port = authority.port_u16().unwrap_or(default_port);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (authority, at_once) = (authority.to_string(), Semaphore::new(MOST_AT_ONCE));
        Ok(Self { options, host, port, authority, path, tls, at_once, idle: Mutex::default() })
    }

    async fn exchange(&self, message: Bytes) -> Result<StatusCode, String> {
        // Where more want to than may, they have a timeout's time together.
        let _turn = self.at_once.acquire().await.map_err(|error| error.to_string())?;
        let token = match &self.options.token_file {
            Some(path) => Some(outbound::token(path).await?),
            None => None,
        };
        let token = token.as_ref().map(|token| token.as_str());
        let kept = self.idle.lock().pop().filter(|kept| !kept.sender.is_closed());
        if let Some(kept) = kept {
            // It may have been closed at the other end meanwhile: then another is made.
            if let Ok(status) = self.post(kept, message.clone(), token).await {
                return Ok(status);
            }
        }
        let connection = self.connect().await?;
        self.post(connection, message, token).await
    }

    async fn post(
        &self,
        mut connection: Connection,
        message: Bytes,
        token: Option<&str>,
    ) -> Result<StatusCode, String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.path.as_str())
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, "cairn")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(message)).map_err(|error| error.to_string())?;
        connection.sender.ready().await.map_err(|error| error.to_string())?;
        let response = connection.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        // Once it is read to its end the connection serves on.
        if Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < MOST_AT_ONCE {
                idle.push(connection);
            }
        }
        Ok(status)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                handshake(connector.connect(name.clone(), stream).await.map_err(|error| error.to_string())?).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(async move {
        // Whoever sends over it learns how it ended.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: AbortOnDropHandle::new(driver) })
}

#[async_trait]
impl Target for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    async fn send(&self, message: Bytes) -> Result<(), Undelivered> {
        let timeout = self.options.timeout;
        let status = match tokio::time::timeout(timeout, self.exchange(message)).await {
            Ok(Ok(status)) => status,
            Ok(Err(why)) => return Err(Undelivered::Failed(why)),
            Err(_) => return Err(Undelivered::Failed(format!("no answer within {} ms", timeout.as_millis()))),
        };
        match judged(status) {
            Judged::Taken => Ok(()),
            Judged::Failed => Err(Undelivered::Failed(format!("it answers {status}"))),
            Judged::Refused => Err(Undelivered::Refused(format!("it answers {status}"))),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Taken,
    Failed,
    Refused,
}

/// Statuses that say something of the address, the token or the moment say nothing of the event.
fn judged(status: StatusCode) -> Judged {
    match status.as_u16() {
        200..=299 => Judged::Taken,
        401 | 402 | 403 | 404 | 407 | 408 | 421 | 423 | 424 | 425 | 426 | 429 => Judged::Failed,
        400..=499 => Judged::Refused,
        _ => Judged::Failed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options(url: &str) -> WebhookOptions {
        let timeout = Duration::from_secs(1);
        WebhookOptions { name: "w".into(), url: url.into(), token_file: None, ca_pem: None, timeout }
    }

    #[test]
    fn options_are_checked() {
        let made = |options| Webhook::new(options).map(|hook| (hook.host.clone(), hook.port, hook.path.clone()));
        assert_eq!(made(options("http://hook.example")), Ok(("hook.example".into(), 80, "/".into())));
        assert_eq!(made(options("http://[::1]:81/a?b=c")), Ok(("::1".into(), 81, "/a?b=c".into())));
        for url in ["", "hook", "/path", "ftp://a/", "http://", "http://u:p@a/", "http://a/#f", "http://a b/"] {
            assert_eq!(made(options(url)), Err(WebhookError::Url), "{url}");
        }
        assert_eq!(made(options("https://a/")), Err(WebhookError::NoCa));
        let ca = WebhookOptions { ca_pem: Some("none".into()), ..options("https://a/") };
        assert!(matches!(made(ca.clone()), Err(WebhookError::Ca(_))));
        assert_eq!(made(WebhookOptions { url: "http://a/".into(), ..ca }), Err(WebhookError::UselessCa));
        let token = |url| WebhookOptions { token_file: Some("t".into()), ..options(url) };
        assert_eq!(made(token("http://a/")), Err(WebhookError::TokenInTheClear));
        made(token("http://127.0.0.1/")).unwrap();
        let hasty = WebhookOptions { timeout: Duration::ZERO, ..options("http://a/") };
        assert_eq!(made(hasty), Err(WebhookError::Timeout));
    }

    #[test]
    fn only_what_is_said_of_the_event_counts_against_it() {
        for (status, expected) in [
            (200, Judged::Taken),
            (204, Judged::Taken),
            (302, Judged::Failed),
            (400, Judged::Refused),
            (401, Judged::Failed),
            (404, Judged::Failed),
            (410, Judged::Refused),
            (413, Judged::Refused),
            (429, Judged::Failed),
            (500, Judged::Failed),
        ] {
            assert_eq!(judged(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
