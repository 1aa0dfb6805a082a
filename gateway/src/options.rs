//! What a gateway is started with, and why it may not start.

use std::{net::SocketAddr, time::Duration};

use crate::{
    audit::AuditLog, encryption::Keyring, events::EventTargets, network::Network, pace::LeastPace, secrets::SecretsKey,
    web_identity::WebIdentities,
};

/// What a gateway is started with.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Port 0 picks a free one; [`crate::Gateway::local_addr`] tells which.
    pub listen: SocketAddr,
    /// Certificate chain and private key, PEM. None serves plain HTTP.
    pub tls: Option<(String, String)>,
    /// Certificates for clients that ask for these names; others are shown the one above.
    pub certificates: Vec<NamedCertificate>,
    /// Balancers: they say by the PROXY protocol whom they speak for, and whoever else does is refused.
    pub balancers: Vec<Network>,
    pub root_access_key: String,
    pub root_secret_key: String,
    /// By which secrets of users are sealed. Without it no user comes in.
    pub secrets: Option<SecretsKey>,
    /// By which objects are encrypted. Without it nothing is, but with keys that clients keep.
    pub keyring: Option<Keyring>,
    /// Roles of those whom providers of identities know. Without any nobody comes in so.
    pub roles: Option<WebIdentities>,
    /// Whom events can be told to. Without any no bucket's notifications can be configured.
    pub targets: Option<EventTargets>,
    /// Whether such keys may come over plain HTTP: where nobody can listen.
    pub customer_keys_over_http: bool,
    /// The region that GetBucketLocation and signatures name.
    pub region: String,
    pub limits: GatewayLimits,
    /// Where requests are told of, if it wants them.
    pub audit: Option<AuditLog>,
    /// Where the gateway registers its metrics.
    pub metrics: prometheus::Registry,
}

/// A certificate for clients that ask for one of some names.
#[derive(Clone)]
pub struct NamedCertificate {
    /// Of hosts; `*.` before one stands for any single label.
    pub names: Vec<String>,
    /// Certificate chain and private key, PEM.
    pub pem: (String, String),
}

impl GatewayOptions {
    /// Plain HTTP, region us-east-1, default limits and a registry of its own.
    pub fn new(listen: SocketAddr, root_access_key: &str, root_secret_key: &str) -> Self {
        Self {
            listen,
            tls: None,
            certificates: Vec::new(),
            balancers: Vec::new(),
            root_access_key: root_access_key.into(),
            root_secret_key: root_secret_key.into(),
            secrets: None,
            keyring: None,
            roles: None,
            audit: None,
            targets: None,
            customer_keys_over_http: false,
            region: "us-east-1".into(),
            limits: GatewayLimits::default(),
            metrics: prometheus::Registry::new(),
        }
    }
}

impl GatewayOptions {
    /// Refuses values that cannot be served.
    pub(crate) fn check(&self) -> Result<(), GatewayError> {
        let wrong = |what, why: &str| Err(GatewayError::Option { what, why: why.into() });
        if self.root_access_key.is_empty() || self.root_secret_key.is_empty() {
            return wrong("root credentials", "neither key may be empty");
        }
        if self.root_access_key.contains(|c: char| !c.is_ascii_graphic() || c == '/' || c == ',') {
            return wrong("root_access_key", "want printable ASCII without '/' and ','");
        }
        if self.tls.is_none() && !self.certificates.is_empty() {
            return wrong("certificates", "https needs one for clients that ask for no name, too (tls_cert, tls_key)");
        }
        if self.region.is_empty() {
            return wrong("region", "it may not be empty");
        }
        if self.roles.is_some() && self.secrets.is_none() {
            return wrong("web_identity", "temporary credentials need a key for secrets (secrets_key_file)");
        }
        let limits = &self.limits;
        if limits.connections == 0 || limits.requests_in_flight == 0 || limits.header_count == 0 {
            return wrong("limits", "none of them may be 0");
        }
        let periods = [limits.header_timeout, limits.idle_timeout, limits.body_timeout, limits.answer_timeout];
        if periods.iter().any(Duration::is_zero) {
            return wrong("limits", "no period may be 0");
        }
        if limits.header_bytes < 8192 {
            return wrong("limits.header_bytes", "S3 allows 8192 bytes of headers");
        }
        Ok(())
    }
}

/// Bounds that hold whatever clients do (BND-1).
#[derive(Clone, Debug)]
pub struct GatewayLimits {
    /// Open TCP connections; further ones are accepted and closed at once.
    pub connections: usize,
    /// Requests being answered at once; further ones get 503 SlowDown.
    pub requests_in_flight: usize,
    /// All headers and the request line of one request.
    pub header_bytes: usize,
    pub header_count: usize,
    /// From the first byte of a request to the end of its headers; also for the handshake of TLS.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// A body is given up when, of so much time in which the client was waited for, it brought less than
    /// [`Self::least_bytes_per_second`].
    pub body_timeout: Duration,
    /// The same for a client that takes an answer.
    pub answer_timeout: Duration,
    /// 0 asks for one byte in that time.
    pub least_bytes_per_second: u64,
}

impl GatewayLimits {
    /// Of a request's body.
    pub(crate) fn body_pace(&self) -> LeastPace {
        LeastPace { window: self.body_timeout, bytes_per_second: self.least_bytes_per_second }
    }

    /// Of an answer.
    pub(crate) fn answer_pace(&self) -> LeastPace {
        LeastPace { window: self.answer_timeout, bytes_per_second: self.least_bytes_per_second }
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            requests_in_flight: 12_000,
            header_bytes: 64 * 1024,
            header_count: 200,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(120),
            least_bytes_per_second: 1024,
        }
    }
}

impl GatewayError {
    /// Without the name of the part that it is about.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Tls(why) => why.clone(),
            other => other.to_string(),
        }
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("{what}: {why}")]
    Option { what: &'static str, why: String },
}
