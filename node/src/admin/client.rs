//! Asks an admin API: what `cairn status`, `cairn admin policy` and `cairn admin rates` are made of.

use std::time::Duration;

use bytes::Bytes;
use cairn_schema::text::Shown;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// An exchange takes no longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// A status of some thousand groups has a few megabytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;
const DEFAULT_PORT: u16 = 9001;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{} is not an admin URL: write it such as http://127.0.0.1:9001", Shown(.0))]
    Url(String),
    #[error("cannot reach the admin API at {0}: {1}; is Cairn running, and is --admin right?")]
    Connect(String, String),
    #[error("the admin API at {0} did not answer within {DEADLINE:?}")]
    Deadline(String),
    #[error("the admin API at {0} answered {1}: {2}")]
    Status(String, StatusCode, String),
    #[error("the admin API at {0} answered what is not HTTP or not JSON: {1}")]
    Answer(String, String),
}

impl ClientError {
    pub(crate) fn not_json(admin: &str, error: &serde_json::Error) -> Self {
        Self::Answer(admin.to_owned(), error.to_string())
    }
}

/// GETs `path` below the admin URL; anything but 200 is an error.
pub(crate) async fn get(admin: &str, path: &str) -> Result<Bytes, ClientError> {
    call(admin, path, None).await
}

/// POSTs JSON to `path` below the admin URL; anything but 200 is an error.
pub(crate) async fn post(admin: &str, path: &str, body: &serde_json::Value) -> Result<Bytes, ClientError> {
    call(admin, path, Some(body.to_string().into())).await
}

async fn call(admin: &str, path: &str, body: Option<Bytes>) -> Result<Bytes, ClientError> {
    let base = if admin.contains("://") { admin.to_owned() } else { format!("http://{admin}") };
    let uri: Uri =
        format!("{}{path}", base.trim_end_matches('/')).parse().map_err(|_| ClientError::Url(admin.into()))?;
    let host = match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
        _ => return Err(ClientError::Url(admin.into())),
    };
    let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
    match timeout(DEADLINE, exchange(&host, port, &uri, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Deadline(format!("{host}:{port}"))),
    }
}

async fn exchange(host: &str, port: u16, uri: &Uri, body: Option<Bytes>) -> Result<Bytes, ClientError> {
    let name = format!("{host}:{port}");
    let broken = |error: &dyn std::fmt::Display| ClientError::Answer(name.clone(), error.to_string());
    let connected = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = connected.await.map_err(|error| ClientError::Connect(name.clone(), error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().uri(path).header(header::HOST, &name);
    let request = match body {
        None => request.body(Full::default()),
        Some(body) => request.method("POST").header(header::CONTENT_TYPE, "application/json").body(Full::new(body)),
    };
    let response =
        sender.send_request(request.map_err(|error| broken(&error))?).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?;
    driver.abort();
    let body = body.to_bytes();
    if status != StatusCode::OK {
        return Err(ClientError::Status(name, status, String::from_utf8_lossy(&body).trim().to_owned()));
    }
    Ok(body)
}
