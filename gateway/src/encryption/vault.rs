//! HashiCorp Vault's transit engine, or OpenBao's: it keeps master keys and lets nobody have them; data keys are sent
//! to be wrapped and opened.
//!
//! <https://developer.hashicorp.com/vault/api-docs/secret/transit>: `encrypt`, `decrypt` and `keys` of one mount. The
//! context of a data key goes along as associated data. A token's policy needs `update` on `encrypt/NAME` and
//! `decrypt/NAME`, and `read` on `keys/NAME`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::TlsConnector;

use super::{error::KeyError, key_file::is_name, secret::Secret};
use crate::outbound;

/// Of one exchange, connection included.
const DEADLINE: Duration = Duration::from_secs(2);
/// Exchanges for one answer: what fails otherwise than by an answer is tried again.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// Exchanges at once; more wait.
const MOST_AT_ONCE: usize = 32;
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// Where the key management is, and who this node is to it.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// `https://HOST:PORT`, or `http://` for one on this machine.
    pub address: String,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// The default key.
    pub key: String,
    /// A file whose first line is the token. It is read again for each exchange, so that an agent may renew it.
    pub token_file: PathBuf,
    /// Whose certificates are believed, PEM: for https.
    pub ca_pem: Option<String>,
    pub namespace: Option<String>,
    /// How long a data key is used, and believed.
    pub data_key_age: Duration,
}

/// Options that no key management can be asked by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("the address must be https://HOST:PORT, or http:// for one on this machine (a loopback address)")]
    Address,
    #[error("{what} may have letters, digits, '-', '_' and '.' only")]
    Name { what: &'static str },
    #[error("an https address needs the CA that signed its certificate")]
    NoCa,
    #[error("the CA cannot be used: {0}")]
    Ca(String),
}

/// When the key management was heard of, and what of.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) answered: Option<Instant>,
    pub(super) failed: Option<(Instant, String)>,
}

/// One key management.
pub(super) struct Vault {
    options: VaultOptions,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    at_once: Semaphore,
    heard: Mutex<Heard>,
}

/// Versions of a key that are told (BND-1).
const MOST_VERSIONS: u32 = 1000;

/// What is known of a key there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyInfo {
    pub(super) latest: u32,
    /// The oldest version that still opens.
    pub(super) oldest: u32,
}

impl KeyInfo {
    /// In order; of very many the latest.
    pub(super) fn versions(&self) -> Vec<u32> {
        (self.oldest.max(self.latest.saturating_sub(MOST_VERSIONS - 1))..=self.latest).collect()
    }
}

/// Why an exchange came to nothing.
enum Failure {
    /// The same may succeed a little later.
    Passing(String),
    Refused(StatusCode, String),
}

impl Vault {
    pub(super) fn new(options: VaultOptions) -> Result<Self, VaultError> {
        let uri: Uri = options.address.parse().map_err(|_| VaultError::Address)?;
        let bare = uri.path() == "/" && uri.query().is_none();
        let host = uri.host().filter(|_| bare).ok_or(VaultError::Address)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !options.mount.split('/').all(is_name) {
            return Err(VaultError::Name { what: "a mount" });
        }
        if !is_name(&options.key) {
            return Err(VaultError::Name { what: "a key's name" });
        }
        let tls = match uri.scheme_str() {
            Some("https") => {
                let ca = options.ca_pem.as_deref().ok_or(VaultError::NoCa)?;
                let name = ServerName::try_from(host.clone()).map_err(|_| VaultError::Address)?;
                Some((outbound::connector(ca).map_err(VaultError::Ca)?, name))
            }
            // Data keys would pass in the clear.
            Some("http") if outbound::is_here(&host) => None,
            _ => return Err(VaultError::Address),
        };
        let port = uri.port_u16().unwrap_or(8200);
        Ok(Self { options, host, port, tls, at_once: Semaphore::new(MOST_AT_ONCE), heard: Mutex::default() })
    }

    pub(super) fn options(&self) -> &VaultOptions {
        &self.options
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }

    /// Wraps a data key by the newest version of a key; what it is called, and the version.
    pub(super) async fn wrap(&self, name: &str, key: &Secret, context: &str) -> Result<(String, u32), KeyError> {
        let text = zeroize::Zeroizing::new(STANDARD.encode(key.bytes()));
        let body = json!({ "plaintext": &*text, "associated_data": STANDARD.encode(context) });
        let answer = self.ask(Method::POST, "encrypt", name, Some(body)).await?;
        let wrapped = answer["data"]["ciphertext"].as_str().unwrap_or_default();
        let version = version_of(wrapped).ok_or_else(|| nonsense("encrypt"))?;
        Ok((wrapped.to_owned(), version))
    }

    pub(super) async fn open(&self, name: &str, wrapped: &str, context: &str) -> Result<Secret, KeyError> {
        let body = json!({ "ciphertext": wrapped, "associated_data": STANDARD.encode(context) });
        let answer = self.ask(Method::POST, "decrypt", name, Some(body)).await?;
        let text = answer["data"]["plaintext"].as_str().ok_or_else(|| nonsense("decrypt"))?;
        let bytes = zeroize::Zeroizing::new(STANDARD.decode(text).map_err(|_| nonsense("decrypt"))?);
        Secret::of(&bytes).ok_or(KeyError::NotOpened)
    }

    pub(super) async fn key(&self, name: &str) -> Result<KeyInfo, KeyError> {
        let answer = self.ask(Method::GET, "keys", name, None).await?;
        let number = |field: &str| answer["data"][field].as_u64().and_then(|number| u32::try_from(number).ok());
        let latest = number("latest_version").ok_or_else(|| nonsense("keys"))?;
        Ok(KeyInfo { latest, oldest: number("min_decryption_version").unwrap_or(1) })
    }

    async fn ask(&self, method: Method, what: &str, name: &str, body: Option<Value>) -> Result<Value, KeyError> {
        if !is_name(name) {
            return Err(KeyError::NoSuchKey(name.to_owned()));
        }
        // Also a turn is waited for so long only: while it is away many wait.
        let turn = tokio::time::timeout(DEADLINE, self.at_once.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(KeyError::Away("too many requests wait for it".into())) };
        let mut tries = 1;
        loop {
            let exchange = self.exchange(&method, what, name, body.as_ref());
            let outcome = match tokio::time::timeout(DEADLINE, exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::Passing(format!("no answer within {} s", DEADLINE.as_secs()))),
            };
            match outcome {
                Ok(answer) => {
                    self.heard.lock().answered = Some(Instant::now());
                    return Ok(answer);
                }
                Err(Failure::Passing(_)) if tries < TRIES => tokio::time::sleep(PAUSE * 3u32.pow(tries - 1)).await,
                Err(Failure::Passing(why)) => {
                    self.heard.lock().failed = Some((Instant::now(), why.clone()));
                    return Err(KeyError::Away(why));
                }
                Err(Failure::Refused(status, why)) => {
                    self.heard.lock().answered = Some(Instant::now());
                    return Err(refused(status, name, why));
                }
            }
            tries += 1;
        }
    }

    async fn exchange(&self, method: &Method, what: &str, name: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
        let token = outbound::token(&self.options.token_file).await.map_err(Failure::Passing)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| passing(&error))?;
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/{}/{what}/{name}", self.options.mount))
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header("x-vault-request", "true")
            .header("x-vault-token", token.as_str());
        if let Some(namespace) = &self.options.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(bytes)).map_err(|error| passing(&error))?;
        match &self.tls {
            None => send(TokioIo::new(stream), request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| passing(&error))?;
                send(TokioIo::new(stream), request).await
            }
        }
    }
}

async fn send<S>(stream: TokioIo<S>, request: Request<Full<Bytes>>) -> Result<Value, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(|e| passing(&e))?;
    // It ends with the exchange, whether that comes to its end or is given up.
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| passing(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await.map_err(|error| passing(&error))?;
    drop(driver);
    let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let why = answer["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let why: String = format!("{status}: {}", why.join("; ")).chars().take(300).collect();
    // A sealed or overloaded Vault answers so, and one that is not the active one.
    if status.is_server_error() || matches!(status.as_u16(), 412 | 429 | 472 | 473) {
        return Err(Failure::Passing(why));
    }
    Err(Failure::Refused(status, why))
}

/// What Vault answers for a key that is not there is 404, or 400 with these words.
fn refused(status: StatusCode, name: &str, why: String) -> KeyError {
    if status == StatusCode::NOT_FOUND || why.contains("encryption key not found") {
        return KeyError::NoSuchKey(name.to_owned());
    }
    if status == StatusCode::BAD_REQUEST {
        tracing::warn!(key = name, why, "the key management refuses what it is asked");
        return KeyError::NotOpened;
    }
    KeyError::Denied { key: name.to_owned(), why }
}

fn nonsense(what: &str) -> KeyError {
    KeyError::Away(format!("what it answers to {what} is not what transit answers"))
}

/// `vault:v3:…` is of version 3.
fn version_of(wrapped: &str) -> Option<u32> {
    let (_, rest) = wrapped.split_once(":v")?;
    rest.split_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options(address: &str) -> VaultOptions {
        VaultOptions {
            address: address.into(),
            mount: "transit".into(),
            key: "cairn".into(),
            token_file: "token".into(),
            ca_pem: None,
            namespace: None,
            data_key_age: Duration::from_secs(1),
        }
    }

    #[test]
    fn options_are_checked() {
        let made =
            |options| Vault::new(options).map(|vault| (vault.host.clone(), vault.port)).map_err(|e| e.to_string());
        assert_eq!(made(options("http://127.0.0.1")), Ok(("127.0.0.1".into(), 8200)));
        assert_eq!(made(options("http://[::1]:1")), Ok(("::1".into(), 1)));
        for address in ["", "http://vault.example:8200", "ftp://127.0.0.1", "http://127.0.0.1/v1", "127.0.0.1:8200"] {
            assert_eq!(made(options(address)), Err(VaultError::Address.to_string()), "{address}");
        }
        assert_eq!(made(options("https://vault.example")), Err(VaultError::NoCa.to_string()));
        let mount = VaultOptions { mount: "a/../b".into(), ..options("http://localhost") };
        assert!(made(mount).is_err());
        let key = VaultOptions { key: "a/b".into(), ..options("http://localhost") };
        assert!(made(key).is_err());
    }

    #[test]
    fn versions_are_read_from_what_is_wrapped() {
        assert_eq!(version_of("vault:v12:abc=="), Some(12));
        for other in ["", "vault", "vault:v:abc", "vault:vx:abc", "vault:v1"] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }
}
