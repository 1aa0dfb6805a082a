//! The admin HTTP server: metrics, health, readiness, status, and the cluster's policy, rates and maintenance. No
//! credentials, so it stays on this machine unless the configuration says otherwise; and what changes something must
//! come from this machine in any case.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_gateway::AuditLog;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    desk::{self, Refusal},
    setting::{Setting, Told},
    subject::{ProcessStatus, Readiness, Subject},
};

/// More connections are accepted and closed at once.
const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any answer's own deadline, so that this only ends connections nobody reads from.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Less than those who ask wait.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// After a failed accept (no file handle left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("admin API: listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

struct Pages {
    started: Instant,
    registry: Registry,
    /// Unset while the process starts.
    subject: OnceLock<Subject>,
    /// Set once clients are served.
    open: OnceLock<()>,
    readiness: Readiness,
    /// Unset where nobody keeps one.
    audit: OnceLock<AuditLog>,
    stopping: watch::Receiver<bool>,
}

/// A running admin server.
pub(crate) struct AdminServer {
    local_addr: SocketAddr,
    pages: Arc<Pages>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Cancelled when the accepting task ends, by whatever way.
    ended: CancellationToken,
}

impl AdminServer {
    /// Listens at once: `/healthz` answers, `/v1/status` does once [`AdminServer::serve`] is called, and `/readyz` says
    /// no until [`AdminServer::open`] is. `stopping` turns readiness off as soon as a shutdown begins.
    pub(crate) async fn start(
        listen: SocketAddr,
        registry: Registry,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, AdminError> {
        let wrong = |error| AdminError::Listen(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(wrong)?;
        let local_addr = listener.local_addr().map_err(wrong)?;
        let pages = Arc::new(Pages {
            started: Instant::now(),
            registry,
            subject: OnceLock::new(),
            open: OnceLock::new(),
            readiness: Readiness::default(),
            audit: OnceLock::new(),
            stopping,
        });
        let (stop, stopped) = watch::channel(false);
        let ended = CancellationToken::new();
        let (ending, served) = (ended.clone().drop_guard(), pages.clone());
        let task = tokio::spawn(async move {
            let _ending = ending;
            accept(listener, served, stopped).await;
        });
        Ok(Self { local_addr, pages, stop, task, ended })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Says what to answer about. Only the first call counts.
    pub(crate) fn serve(&self, subject: Subject) {
        if self.pages.subject.set(subject).is_err() {
            tracing::warn!("the admin API has a subject already");
        }
    }

    /// Says where changes are told of. Only the first call counts.
    pub(crate) fn audit(&self, audit: AuditLog) {
        let _ = self.pages.audit.set(audit);
    }

    /// Says that clients are served from now on.
    pub(crate) fn open(&self) {
        self.pages.open.get_or_init(|| ());
    }

    /// Whether the process could do its work now, though clients may not be served yet.
    pub(crate) async fn able(&self) -> Result<(), String> {
        self.pages.able().await
    }

    /// Waits until no connection is accepted any more: a server that nobody told to stop cannot go on then.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Closes the listener and all connections.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "admin API ended badly");
        }
    }
}

async fn accept(listener: TcpListener, pages: Arc<Pages>, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Ok(permit) = permits.clone().try_acquire_owned() {
                    tokio::spawn(connection((stream, peer), pages.clone(), stopped.clone(), permit));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "admin API: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    pages: Arc<Pages>,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Without it a small answer waits for the client's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that breaks off is its own business.
        _ = connection => {}
        _ = tokio::time::sleep(CONNECTION_LIFETIME) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

type Page = Response<Full<Bytes>>;

const INDEX: &str = "Cairn admin API\n\n\
    /healthz    the process is alive\n\
    /readyz     a write can be made durable now (503 and a reason otherwise)\n\
    /metrics    Prometheus\n\
    /v1/status  the cluster, JSON\n\
    /v1/policy  how it keeps data, JSON; POST changes it (see `cairn admin policy`)\n\
    /v1/jobs    what moves between disks and why, JSON; POST plans, begins and changes it (see `cairn admin jobs`)\n\
    /v1/rates   how fast nodes repair and scrub, JSON; POST changes it (see `cairn admin rates`)\n\
    /v1/safe-to-stop?node=N   whether disk=, node=, rack= or zone=N may be stopped, JSON (see `cairn admin safe-to-stop`)\n\
    /v1/maintenance   nodes that somebody works on, JSON; POST changes it (see `cairn admin maintenance`)\n\
    /v1/kms     the keys by which objects are encrypted, JSON; POST wraps again (see `cairn admin kms`)\n\
    /v1/access  users, their keys and policies; POST only, from this machine (see `cairn admin access`)\n\
    /v1/buckets what buckets hold and may hold; POST only, from this machine (see `cairn admin bucket`)\n\
    /v1/events  what waits for the targets of events; POST only, from this machine (see `cairn admin events`)\n";

impl Pages {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Page {
        if let Some(setting) = Setting::at(request.uri().path()) {
            return self.setting(setting, request, peer).await.unwrap_or_else(refused);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut page = json_page(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "only GET and HEAD"}));
            page.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match request.uri().path() {
            "/" => text_page(StatusCode::OK, "text/plain; charset=utf-8", INDEX),
            "/healthz" => json_page(StatusCode::OK, &json!({"alive": true})),
            "/readyz" => match self.ready().await {
                Ok(()) => json_page(StatusCode::OK, &json!({"ready": true})),
                Err(reason) => unavailable(&json!({"ready": false, "reason": reason})),
            },
            "/metrics" => self.metrics(),
            "/v1/status" => self.status().await,
            "/v1/safe-to-stop" => self.safe_to_stop(request.uri().query()).await.unwrap_or_else(refused),
            path => json_page(StatusCode::NOT_FOUND, &json!({"error": format!("no page {path}; see /")})),
        }
    }

    async fn ready(&self) -> Result<(), String> {
        self.able().await?;
        self.open.get().copied().ok_or_else(|| "clients are not served yet".to_owned())
    }

    async fn able(&self) -> Result<(), String> {
        if *self.stopping.borrow() {
            return Err("stopping".to_owned());
        }
        match self.subject.get() {
            Some(subject) => self.readiness.check(subject).await,
            None => Err("starting".to_owned()),
        }
    }

    fn metrics(&self) -> Page {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => text_page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => {
                tracing::error!(%error, "render metrics");
                json_page(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error.to_string()}))
            }
        }
    }

    async fn setting(&self, setting: Setting, request: Request<Incoming>, peer: SocketAddr) -> Result<Page, Refusal> {
        let refuse = |status, why: &str| Err(Refusal { status, why: why.to_owned() });
        let Some(subject) = self.subject.get() else { return refuse(StatusCode::SERVICE_UNAVAILABLE, "starting") };
        let Some(desk) = subject.desk() else {
            return refuse(
                StatusCode::NOT_FOUND,
                "a metadata server goes by no policy, rates or maintenance: ask a node",
            );
        };
        match *request.method() {
            Method::GET | Method::HEAD => Ok(json_page(StatusCode::OK, &setting.shown(&desk).await?)),
            Method::POST => {
                desk::may_change(peer, request.headers())?;
                let body = Limited::new(request.into_body(), setting.max_bytes()).collect();
                let body = tokio::time::timeout(HEADER_TIMEOUT, body).await;
                let Ok(Ok(body)) = body else {
                    return refuse(StatusCode::BAD_REQUEST, "the change did not come whole");
                };
                let body = body.to_bytes();
                let done = setting.order(&desk, &body).await;
                if let Some(audit) = self.audit.get() {
                    audit.tell("order", &Told::of(setting, peer, &body, done.as_ref().err()));
                }
                Ok(json_page(StatusCode::OK, &done?))
            }
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST"),
        }
    }

    async fn safe_to_stop(&self, query: Option<&str>) -> Result<Page, Refusal> {
        let starting = || Refusal { status: StatusCode::SERVICE_UNAVAILABLE, why: "starting".to_owned() };
        let nobody = || Refusal {
            status: StatusCode::NOT_FOUND,
            why: "a metadata server knows no disks: ask a node".to_owned(),
        };
        let desk = self.subject.get().ok_or_else(starting)?.desk().ok_or_else(nobody)?;
        match tokio::time::timeout(STOP_DEADLINE, desk.safe_to_stop(query)).await {
            Ok(answer) => Ok(json_page(StatusCode::OK, &answer?)),
            Err(_) => Err(Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                why: format!("the metadata did not tell within {STOP_DEADLINE:?}: nothing may be stopped"),
            }),
        }
    }

    async fn status(&self) -> Page {
        let Some(subject) = self.subject.get() else { return unavailable(&json!({"error": "starting"})) };
        let process = ProcessStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
        };
        match subject.status(process).await {
            Ok(page) => json_page(StatusCode::OK, &page),
            Err(error) => unavailable(&json!({"error": error})),
        }
    }
}

fn refused(Refusal { status, why }: Refusal) -> Page {
    json_page(status, &json!({"error": why}))
}

fn unavailable(body: &serde_json::Value) -> Page {
    json_page(StatusCode::SERVICE_UNAVAILABLE, body)
}

fn json_page(status: StatusCode, body: &impl serde::Serialize) -> Page {
    match serde_json::to_vec(body) {
        Ok(mut text) => {
            text.push(b'\n');
            text_page(status, "application/json", text)
        }
        Err(error) => text_page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string()),
    }
}

fn text_page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
