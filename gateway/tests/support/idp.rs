//! A provider of identities on a real socket: it signs what tests want said, rotates its keys, goes away, and lies.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cairn_gateway::WebIdentityOptions;
use parking_lot::Mutex;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::tls::self_signed;

pub(crate) const CLIENT_ID: &str = "cairn-clients";

/// How it is now.
#[derive(Default)]
pub(crate) struct State {
    /// Its key set.
    pub keys: Vec<Value>,
    /// Requests that came, by path.
    pub asked: Vec<String>,
    /// It takes connections and answers none.
    pub hangs: bool,
    /// It answers everything so, and points there.
    pub answers: Option<(u16, String)>,
    /// What it says instead of its key set, and instead of its discovery document.
    pub key_set: Option<Vec<u8>>,
    pub discovery: Option<Value>,
}

pub(crate) enum Signing {
    Es256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key of a provider.
pub(crate) struct IdpKey {
    pub id: String,
    signing: Signing,
}

pub(crate) struct Idp {
    pub state: Arc<Mutex<State>>,
    pub issuer: String,
    pub certificate: Option<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl IdpKey {
    pub(crate) fn es256(id: &str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
        Self { id: id.into(), signing: Signing::Es256(pair) }
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id: id.into(), signing: Signing::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()) }
    }

    pub(crate) fn rsa(id: &str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("rsa_of_tests.pem")).unwrap();
        Self { id: id.into(), signing: Signing::Rsa(RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap()) }
    }

    /// As its provider shows it.
    pub(crate) fn shown(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut shown = match &self.signing {
            Signing::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Signing::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Signing::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({"kty": "RSA", "n": encode(&n), "e": encode(&e)})
            }
        };
        shown["kid"] = json!(self.id);
        shown["use"] = json!("sig");
        shown
    }

    /// Of an RSA key: whoever takes a public key for a secret would take this.
    pub(crate) fn modulus(&self) -> Vec<u8> {
        let Signing::Rsa(pair) = &self.signing else { panic!("an RSA key is wanted") };
        PublicKeyComponents::<Vec<u8>>::from(pair.public()).n
    }

    fn signature(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signing {
            Signing::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signing::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Signing::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let padding: &'static dyn ring::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with its id in the header.
    pub(crate) fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.token_of(&json!({"alg": algorithm, "kid": self.id, "typ": "JWT"}), claims)
    }

    pub(crate) fn token_of(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.signature(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The first two parts of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

impl Idp {
    pub(crate) async fn start(keys: &[&IdpKey]) -> Self {
        Self::start_with(keys, None).await
    }

    /// Over TLS, with a certificate of its own.
    pub(crate) async fn start_tls(keys: &[&IdpKey]) -> Self {
        Self::start_with(keys, Some(self_signed())).await
    }

    async fn start_with(keys: &[&IdpKey], tls: Option<(String, tokio_rustls::TlsAcceptor)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (certificate, acceptor) = tls.unzip();
        let issuer = match &certificate {
            Some(_) => format!("https://localhost:{}/realms/staff", address.port()),
            None => format!("http://{address}/realms/staff"),
        };
        let keys = keys.iter().map(|key| key.shown()).collect();
        let state = Arc::new(Mutex::new(State { keys, ..State::default() }));
        let (shared, of_issuer) = (state.clone(), issuer.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, issuer, acceptor) = (shared.clone(), of_issuer.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, shared, &issuer).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, shared, &issuer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { state, issuer, certificate, task }
    }

    /// A role called `staff` of this provider, whose tokens say which groups their holders are in.
    pub(crate) fn role(&self) -> WebIdentityOptions {
        WebIdentityOptions {
            name: "staff".into(),
            issuer: self.issuer.clone(),
            ca_pem: self.certificate.clone(),
            client_ids: vec![CLIENT_ID.into()],
            policies: Vec::new(),
            groups: Vec::new(),
            policy_claim: None,
            group_claim: Some("groups".into()),
            longest: Duration::from_secs(43_200),
            keys_age: Duration::from_secs(900),
        }
    }

    /// What an ordinary token of alice says, who is in these groups.
    pub(crate) fn claims(&self, groups: &[&str]) -> Value {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        json!({
            "iss": self.issuer, "sub": "alice@example", "aud": CLIENT_ID, "iat": now, "exp": now + 600, "groups": groups
        })
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    /// How often its keys were asked for.
    pub(crate) fn fetched(&self) -> usize {
        self.state.lock().asked.iter().filter(|path| path.ends_with("/keys")).count()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>, issuer: &str) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, location, body, hangs) = {
        let mut state = state.lock();
        state.asked.push(path.clone());
        let (status, location) = state.answers.clone().unwrap_or((200, String::new()));
        let discovery = || json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": "x"});
        let body = match path.as_str() {
            "/realms/staff/.well-known/openid-configuration" => {
                state.discovery.clone().unwrap_or_else(discovery).to_string().into_bytes()
            }
            "/realms/staff/keys" => {
                let keys = json!({"keys": state.keys}).to_string().into_bytes();
                state.key_set.clone().unwrap_or(keys)
            }
            _ => b"{}".to_vec(),
        };
        (status, location, body, state.hangs)
    };
    if hangs {
        // Held open: whoever waits must have a deadline.
        let mut rest = [0; 1];
        let _ = stream.read(&mut rest).await;
        return;
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    let _ = stream.shutdown().await;
}
