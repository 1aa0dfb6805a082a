//! A small S3 client over HTTP/1.1, signing with SigV4: enough to load a cluster and to check it, nothing of Cairn inside.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const REGION: &str = "us-east-1";
/// One request with its whole body; a server that takes longer has failed it.
const DEADLINE: Duration = Duration::from_secs(120);
/// One request whose body is streamed: gigabytes through a busy machine.
const STREAM_DEADLINE: Duration = Duration::from_secs(1800);

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error("{method} {path}: {status}: {body}")]
    Status { method: Method, path: String, status: StatusCode, body: String },
    #[error("{method} {path}: {why}")]
    Transport { method: Method, path: String, why: String },
}

/// Where a cluster is and who asks.
#[derive(Clone, Debug)]
pub struct Account {
    /// `http://host:port`
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
}

/// A client with a connection pool. Cheap to clone.
#[derive(Clone)]
pub struct S3 {
    account: Account,
    http: Client<HttpConnector, Body>,
}

impl S3 {
    pub fn new(account: Account) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self { account, http: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Creates the bucket; one that exists already is as good.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        match self.send(Method::PUT, &format!("/{bucket}"), Bytes::new()).await {
            Ok(_) | Err(S3Error::Status { status: StatusCode::CONFLICT, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn put(&self, bucket: &str, key: &str, body: Bytes) -> Result<(), S3Error> {
        self.send(Method::PUT, &format!("/{bucket}/{key}"), body).await.map(drop)
    }

    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes, S3Error> {
        self.send(Method::GET, &format!("/{bucket}/{key}"), Bytes::new()).await
    }

    /// Streams a body of `length` bytes without holding it.
    pub async fn put_stream<I>(&self, bucket: &str, key: &str, length: u64, pieces: I) -> Result<(), S3Error>
    where
        I: Iterator<Item = Bytes> + Send + 'static,
    {
        let path = format!("/{bucket}/{key}");
        let failed = |why: String| S3Error::Transport { method: Method::PUT, path: path.clone(), why };
        let frames = futures::stream::iter(pieces.map(|piece| Ok(hyper::body::Frame::data(piece))));
        let body = UnsyncBoxBody::new(StreamBody::new(frames));
        let sending = self.begin(&Method::PUT, &path, body, Some(length));
        tokio::time::timeout(STREAM_DEADLINE, sending).await.map_err(|_| failed("deadline passed".into()))?.map(drop)
    }

    /// Reads an object to its end without holding it; `each` sees every piece in order. Returns its length.
    pub async fn drain(&self, bucket: &str, key: &str, mut each: impl FnMut(&[u8])) -> Result<u64, S3Error> {
        let path = format!("/{bucket}/{key}");
        let failed = |why: String| S3Error::Transport { method: Method::GET, path: path.clone(), why };
        let reading = async {
            let mut answer = self.begin(&Method::GET, &path, whole(Bytes::new()), None).await?;
            let mut length = 0;
            while let Some(frame) = answer.frame().await {
                let frame = frame.map_err(|error| failed(error.to_string()))?;
                if let Some(data) = frame.data_ref() {
                    length += data.len() as u64;
                    each(data);
                }
            }
            Ok(length)
        };
        tokio::time::timeout(STREAM_DEADLINE, reading).await.map_err(|_| failed("deadline passed".into()))?
    }

    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), S3Error> {
        self.send(Method::DELETE, &format!("/{bucket}/{key}"), Bytes::new()).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, S3Error> {
        let failed = |why: String| S3Error::Transport { method: method.clone(), path: path.to_owned(), why };
        let exchange = async {
            let answer = self.begin(&method, path, whole(body), None).await?;
            let collected = answer.collect().await.map_err(|error| failed(error.to_string()))?;
            Ok(collected.to_bytes())
        };
        tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| failed("deadline passed".into()))?
    }

    /// Sends the request and returns the body of a successful answer.
    async fn begin(
        &self,
        method: &Method,
        path: &str,
        body: Body,
        length: Option<u64>,
    ) -> Result<hyper::body::Incoming, S3Error> {
        let failed = |why: String| S3Error::Transport { method: method.clone(), path: path.to_owned(), why };
        let mut request = sign(&self.account, method, path, body, OffsetDateTime::now_utc()).map_err(failed)?;
        if let Some(length) = length {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        let answer = self.http.request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).chars().take(500).collect();
        Err(S3Error::Status { method: method.clone(), path: path.to_owned(), status, body })
    }
}

/// Signs with the payload left out of the signature, as clients over TLS do; `path` must need no escaping.
fn sign(
    account: &Account,
    method: &Method,
    path: &str,
    body: Body,
    now: OffsetDateTime,
) -> Result<Request<Body>, String> {
    let uri: Uri = format!("{}{path}", account.endpoint).parse().map_err(|error| format!("bad address: {error}"))?;
    let host = uri.authority().ok_or("the endpoint names no host")?.to_string();
    let stamp = now.format(STAMP).map_err(|error| error.to_string())?;
    let payload = "UNSIGNED-PAYLOAD";
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{stamp}\n\n{signed}\n{payload}"
    );
    let date = &stamp[..8];
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", account.secret_key).into_bytes();
    for step in [date, REGION, "s3", "aws4_request"] {
        key = mac(&key, step.as_bytes());
    }
    let signature = hex::encode(mac(&key, text.as_bytes()));
    let access = &account.access_key;
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", host)
        .header("x-amz-content-sha256", payload)
        .header("x-amz-date", stamp)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature={signature}"),
        )
        .body(body)
        .map_err(|error| error.to_string())
}

fn whole(body: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(body))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
