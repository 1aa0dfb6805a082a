//! What one request carries through the layers besides its S3 input.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::Extensions;
use hyper::body::Incoming;
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode, s3_error};

use crate::{error::ErrorDocument, fault::BodyFault, session::OpenedSession, turnstile::Pass};

/// What is left of a request's body when nobody wants it any more.
pub(crate) enum Unread {
    /// It can be read and thrown away, after which the connection serves on.
    Rest(Incoming),
    /// It will not come, or must not be asked for: the connection ends.
    GivenUp,
}

/// What a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct AskedFor {
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) version: Option<String>,
    /// By which it was signed.
    pub(crate) access_key: Option<String>,
}

/// One request's own facts; travels in the HTTP extensions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RequestContext(Arc<Facts>);

struct Facts {
    id: String,
    operation: OnceLock<Box<str>>,
    is_audited: AtomicBool,
    asked: OnceLock<AskedFor>,
    caller: OnceLock<String>,
    fault: OnceLock<BodyFault>,
    unread: Mutex<Option<Unread>>,
    outcome: OnceLock<Result<(), ErrorDocument>>,
    received_bytes: AtomicU64,
    peer: OnceLock<IpAddr>,
    tls: OnceLock<&'static str>,
    conceals_missing: AtomicBool,
    pass: Mutex<Option<Pass>>,
    session: OnceLock<Arc<OpenedSession>>,
}

impl RequestContext {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Facts {
            id: format!("{:016X}", rand::random::<u64>()),
            operation: OnceLock::new(),
            is_audited: AtomicBool::new(false),
            asked: OnceLock::new(),
            caller: OnceLock::new(),
            fault: OnceLock::new(),
            unread: Mutex::new(None),
            outcome: OnceLock::new(),
            received_bytes: AtomicU64::new(0),
            peer: OnceLock::new(),
            tls: OnceLock::new(),
            conceals_missing: AtomicBool::new(false),
            pass: Mutex::new(None),
            session: OnceLock::new(),
        }))
    }

    /// The context the service put into a request's extensions.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// 16 hexadecimal digits, told to the client and in every log line.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn set_peer(&self, address: IpAddr) {
        let _ = self.0.peer.set(address);
    }

    /// The other end of the connection, whatever headers say of it.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.0.peer.get().copied()
    }

    pub(crate) fn set_tls(&self, version: Option<&'static str>) {
        if let Some(version) = version {
            let _ = self.0.tls.set(version);
        }
    }

    /// The version of TLS that the client speaks with us; None over plain HTTP, whatever stands before us.
    pub(crate) fn tls(&self) -> Option<&'static str> {
        self.0.tls.get().copied()
    }

    /// From now on an object that is missing is answered as one that is forbidden.
    pub(crate) fn conceal_missing(&self) {
        self.0.conceals_missing.store(true, Ordering::Relaxed);
    }

    /// The request counts among those under way until it is answered.
    pub(crate) fn keep_pass(&self, pass: Pass) {
        *self.0.pass.lock() = Some(pass);
    }

    /// What the request's token says. A signature by that session's secret must come with it.
    pub(crate) fn set_session(&self, session: OpenedSession) {
        let _ = self.0.session.set(Arc::new(session));
    }

    pub(crate) fn session(&self) -> Option<&Arc<OpenedSession>> {
        self.0.session.get()
    }

    pub(crate) fn set_operation(&self, name: &str) {
        let _ = self.0.operation.set(name.into());
    }

    /// From now on who asks for what is kept for the audit log.
    pub(crate) fn audit(&self) {
        self.0.is_audited.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_audited(&self) -> bool {
        self.0.is_audited.load(Ordering::Relaxed)
    }

    /// What a request that is signed rightly, or by nobody, is about.
    pub(crate) fn set_asked(&self, asked: AskedFor) {
        let _ = self.0.asked.set(asked);
    }

    /// None of what was refused before that was known.
    pub(crate) fn asked(&self) -> Option<&AskedFor> {
        self.0.asked.get()
    }

    /// Who asks, as policies name them.
    pub(crate) fn set_caller(&self, arn: String) {
        let _ = self.0.caller.set(arn);
    }

    pub(crate) fn caller(&self) -> Option<&str> {
        self.0.caller.get().map(String::as_str)
    }

    /// The S3 operation, or "Unknown" for what was refused before it was routed.
    pub(crate) fn operation(&self) -> &str {
        self.0.operation.get().map_or("Unknown", |name| name)
    }

    pub(crate) fn count_received(&self, bytes: u64) {
        self.0.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of the body that have come off the wire.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }

    /// The first thing that went wrong while the body was read.
    pub(crate) fn record_fault(&self, fault: BodyFault) {
        let _ = self.0.fault.set(fault);
    }

    pub(crate) fn fault(&self) -> Option<&BodyFault> {
        self.0.fault.get()
    }

    /// Keeps how an operation ended, for `s3s` loses half of what it refuses on the way.
    pub(crate) fn record_outcome(&self, outcome: Result<(), &S3Error>) {
        let shown = |error: &S3Error| match error.code() {
            S3ErrorCode::NoSuchKey | S3ErrorCode::NoSuchVersion if self.0.conceals_missing.load(Ordering::Relaxed) => {
                ErrorDocument::of(&s3_error!(AccessDenied))
            }
            _ => ErrorDocument::of(error),
        };
        let _ = self.0.outcome.set(outcome.map_err(shown));
    }

    /// None until there is one: the request was refused before it came to an operation.
    pub(crate) fn outcome(&self) -> Option<&Result<(), ErrorDocument>> {
        self.0.outcome.get()
    }

    /// Keeps what is unread of a body for the service, which decides what becomes of the connection.
    pub(crate) fn leave(&self, unread: Unread) {
        *self.0.unread.lock() = Some(unread);
    }

    pub(crate) fn take_unread(&self) -> Option<Unread> {
        self.0.unread.lock().take()
    }
}
