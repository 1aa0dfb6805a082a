//! A double of Vault's transit engine on the wire: what it wraps nobody else can open, and it can go away, rotate its
//! keys and refuse.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cairn_gateway::{Keyring, VaultOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::tls::self_signed;

pub(crate) const TOKEN: &str = "hvs.test-token";

/// How it is now.
#[derive(Default)]
pub(crate) struct State {
    /// Versions of the keys that there are.
    pub keys: HashMap<String, u32>,
    /// What was wrapped: key, plaintext and associated data, by what it is called.
    wrapped: HashMap<String, (String, String, String)>,
    /// Exchanges by what was asked, such as `decrypt/cairn`.
    pub asked: HashMap<String, usize>,
    /// It takes connections and answers none.
    pub away: bool,
    /// It answers everything so.
    pub answers: Option<u16>,
}

pub(crate) struct Vault {
    pub state: Arc<Mutex<State>>,
    address: SocketAddr,
    /// Its certificate, if it speaks TLS.
    certificate: Option<String>,
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Vault {
    pub(crate) async fn start(keys: &[&str]) -> Self {
        Self::start_with(keys, None, None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_tls(keys: &[&str]) -> Self {
        let (certificate, acceptor) = self_signed();
        Self::start_with(keys, Some(certificate), Some(acceptor)).await
    }

    async fn start_with(keys: &[&str], certificate: Option<String>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let keys = keys.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let state = Arc::new(Mutex::new(State { keys, ..State::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { state, address, certificate, folder, task }
    }

    pub(crate) fn options(&self, data_key_age: Duration) -> VaultOptions {
        VaultOptions {
            address: match &self.certificate {
                None => format!("http://{}", self.address),
                Some(_) => format!("https://localhost:{}", self.address.port()),
            },
            mount: "transit".into(),
            key: "cairn".into(),
            token_file: self.token_file(),
            ca_pem: self.certificate.clone(),
            namespace: Some("team".into()),
            data_key_age,
        }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        Path::new(self.folder.path()).join("token")
    }

    pub(crate) fn keyring(&self, data_key_age: Duration) -> Keyring {
        Keyring::of_vault(self.options(data_key_age)).unwrap()
    }

    pub(crate) fn asked(&self, what: &str) -> usize {
        self.state.lock().asked.get(what).copied().unwrap_or(0)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let Some((method, path, headers, body)) = read(&mut stream).await else { return };
    if state.lock().away {
        // Held open: whoever waits must have a deadline.
        let mut rest = [0; 1];
        let _ = stream.read(&mut rest).await;
        return;
    }
    let (status, answer) = answer(&state, &method, &path, &headers, &body);
    let text = answer.to_string();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
    let _ = stream.write_all([head.as_bytes(), text.as_bytes()].concat().as_slice()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String, String, Value)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let headers = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = headers.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    while bytes.len() < head + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&bytes[..head]).lines().next()?.to_owned();
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let body = serde_json::from_slice(&bytes[head..]).unwrap_or_default();
    Some((words.next()?, words.next()?, headers, body))
}

fn answer(state: &Mutex<State>, method: &str, path: &str, headers: &str, body: &Value) -> (u16, Value) {
    let error = |status: u16, why: &str| (status, json!({ "errors": [why] }));
    let mut state = state.lock();
    let Some(what) = path.strip_prefix("/v1/transit/") else { return error(404, "no handler for route") };
    *state.asked.entry(what.to_owned()).or_default() += 1;
    if let Some(status) = state.answers {
        return error(status, "told to");
    }
    let lines: Vec<&str> = headers.lines().map(str::trim).collect();
    let token = format!("x-vault-token: {TOKEN}");
    if !lines.contains(&token.as_str()) || !lines.contains(&"x-vault-namespace: team") {
        return error(403, "permission denied");
    }
    let Some((verb, name)) = what.split_once('/') else { return error(404, "unsupported path") };
    let Some(version) = state.keys.get(name).copied() else {
        return if verb == "keys" { error(404, "") } else { error(400, "encryption key not found") };
    };
    let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match (method, verb) {
        ("POST", "encrypt") => {
            let called = format!("vault:v{version}:{:032x}", rand_number());
            let kept = (name.to_owned(), field("plaintext"), field("associated_data"));
            state.wrapped.insert(called.clone(), kept);
            (200, json!({ "data": { "ciphertext": called, "key_version": version } }))
        }
        ("POST", "decrypt") => match state.wrapped.get(&field("ciphertext")) {
            Some((of, plaintext, bound)) if of == name && *bound == field("associated_data") => {
                (200, json!({ "data": { "plaintext": plaintext } }))
            }
            _ => error(400, "cipher: message authentication failed"),
        },
        ("GET", "keys") => {
            (200, json!({ "data": { "latest_version": version, "min_decryption_version": 1, "type": "aes256-gcm96" } }))
        }
        _ => error(405, "unsupported operation"),
    }
}

fn rand_number() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    (0..2).fold(0, |number, at| number << 64 | u128::from(RandomState::new().hash_one(at)))
}
