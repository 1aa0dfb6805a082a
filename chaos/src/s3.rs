//! A small S3 client over HTTP/1.1, signing with SigV4: enough to load a cluster and to check it, nothing of Cairn
//! inside.

use std::{convert::Infallible, time::Duration};

use base64::Engine;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
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
    /// The request was given up: whoever answers later is too late.
    #[error("{method} {path}: no whole answer in {after:?}")]
    Deadline { method: Method, path: String, after: Duration },
}

impl S3Error {
    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Transport { .. } | Self::Deadline { .. } => None,
        }
    }
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
    deadline: Duration,
}

impl S3 {
    pub fn new(account: Account) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self { account, http: Client::builder(TokioExecutor::new()).build(connector), deadline: DEADLINE }
    }

    /// With another bound on the time of each request whose body is not streamed.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Creates the bucket; one that exists already is as good.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        match self.send(Method::PUT, &format!("/{bucket}"), Bytes::new()).await {
            Ok(_) | Err(S3Error::Status { status: StatusCode::CONFLICT, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        self.send(Method::DELETE, &format!("/{bucket}"), Bytes::new()).await.map(drop)
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
            let mut answer = self.begin(&Method::GET, &path, single(Bytes::new()), None).await?;
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

    /// Keys that start with `prefix`; at most a page of them.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, S3Error> {
        let page =
            self.send(Method::GET, &format!("/{bucket}?list-type=2&prefix={}", escaped(prefix)), Bytes::new()).await?;
        let page = String::from_utf8_lossy(&page).into_owned();
        Ok(elements(&page, "Key").map(str::to_owned).collect())
    }

    /// Deletes several keys in one request; the keys that could not be deleted.
    pub async fn delete_batch(&self, bucket: &str, keys: &[String]) -> Result<Vec<String>, S3Error> {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let body = Bytes::from(format!("<Delete>{objects}<Quiet>true</Quiet></Delete>"));
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&body));
        let headers = [("x-amz-checksum-sha256", &*digest)];
        let answer = self.exchange(Method::POST, &format!("/{bucket}?delete="), body, &headers).await?;
        let answer = String::from_utf8_lossy(&answer.1).into_owned();
        Ok(elements(&answer, "Key").map(str::to_owned).collect())
    }

    /// From now on the bucket keeps what is overwritten.
    pub async fn enable_versioning(&self, bucket: &str) -> Result<(), S3Error> {
        let body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.send(Method::PUT, &format!("/{bucket}?versioning="), body.into()).await.map(drop)
    }

    /// Uploads an object in parts.
    pub async fn put_in_parts(&self, bucket: &str, key: &str, parts: &[Bytes]) -> Result<(), S3Error> {
        let upload = self.begin_upload(bucket, key).await?;
        let mut list = String::new();
        for (index, part) in parts.iter().enumerate() {
            let etag = self.put_part(bucket, key, &upload, index + 1, part.clone()).await?;
            list += &format!("<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", index + 1);
        }
        self.complete(bucket, key, &upload, &list).await
    }

    /// The new upload's id.
    pub async fn begin_upload(&self, bucket: &str, key: &str) -> Result<String, S3Error> {
        self.begin_upload_with(bucket, key, &[]).await
    }

    /// With headers that say more of the object.
    pub async fn begin_upload_with(
        &self,
        bucket: &str,
        key: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<String, S3Error> {
        let path = format!("/{bucket}/{key}?uploads=");
        let (_, answer) = self.exchange(Method::POST, &path, Bytes::new(), headers).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let id = elements(&answer, "UploadId").next().map(str::to_owned);
        id.ok_or(S3Error::Transport { method: Method::POST, path, why: "no UploadId in the answer".into() })
    }

    /// The part's ETag.
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: usize,
        body: Bytes,
    ) -> Result<String, S3Error> {
        let path = format!("/{bucket}/{key}?partNumber={number}&uploadId={}", escaped(upload));
        let (headers, _) = self.exchange(Method::PUT, &path, body, &[]).await?;
        let etag = headers.get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        etag.ok_or(S3Error::Transport { method: Method::PUT, path, why: "no ETag in the answer".into() })
    }

    /// Makes an object of the parts, which are elements of the request's document.
    pub async fn complete(&self, bucket: &str, key: &str, upload: &str, parts: &str) -> Result<(), S3Error> {
        self.completed(bucket, key, upload, parts).await.map(drop)
    }

    /// The same; returns the answer's headers.
    pub async fn completed(&self, bucket: &str, key: &str, upload: &str, parts: &str) -> Result<HeaderMap, S3Error> {
        let path = format!("/{bucket}/{key}?uploadId={}", escaped(upload));
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let (headers, answer) = self.exchange(Method::POST, &path, body.into(), &[]).await?;
        // An error may come after the status 200.
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.contains("<CompleteMultipartUploadResult") {
            return Ok(headers);
        }
        Err(S3Error::Status { method: Method::POST, path, status: StatusCode::INTERNAL_SERVER_ERROR, body: answer })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, S3Error> {
        Ok(self.exchange(method, path, body, &[]).await?.1)
    }

    /// One request with headers of its own: the headers and the body of a successful answer. The path is as `sign`
    /// needs it.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&'static str, &str)],
    ) -> Result<(HeaderMap, Bytes), S3Error> {
        let failed = |why: String| S3Error::Transport { method: method.clone(), path: path.to_owned(), why };
        // hyper leaves the length of an empty body out, and S3 refuses a PUT without one.
        let length = (method == Method::PUT).then_some(body.len() as u64);
        let exchange = async {
            let answer = self.answer(&method, path, single(body), length, headers).await?;
            let (head, body) = answer.into_parts();
            let collected = body.collect().await.map_err(|error| failed(error.to_string()))?;
            Ok((head.headers, collected.to_bytes()))
        };
        let late = |_| S3Error::Deadline { method: method.clone(), path: path.to_owned(), after: self.deadline };
        tokio::time::timeout(self.deadline, exchange).await.map_err(late)?
    }

    /// Sends the request and returns the body of a successful answer.
    async fn begin(
        &self,
        method: &Method,
        path: &str,
        body: Body,
        length: Option<u64>,
    ) -> Result<hyper::body::Incoming, S3Error> {
        Ok(self.answer(method, path, body, length, &[]).await?.into_body())
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        body: Body,
        length: Option<u64>,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<hyper::body::Incoming>, S3Error> {
        let failed = |why: String| S3Error::Transport { method: method.clone(), path: path.to_owned(), why };
        let now = OffsetDateTime::now_utc();
        let mut request = sign(&self.account, method, path, headers, body, now).map_err(failed)?;
        if let Some(length) = length {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        let answer = self.http.request(request).await.map_err(|error| failed(whole(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).chars().take(500).collect();
        Err(S3Error::Status { method: method.clone(), path: path.to_owned(), status, body })
    }
}

/// An error with all that caused it.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The texts of the elements of a name, none of which is nested in another.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)? + open.len();
        let length = rest[begin..].find(&close)?;
        let text = &rest[begin..begin + length];
        rest = &rest[begin + length..];
        Some(text)
    })
}

/// A value of a query.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

/// Signs with the payload left out of the signature, as clients over TLS do; `path` must need no escaping, and its
/// query must be sorted, escaped, and have an equals sign for every name.
fn sign(
    account: &Account,
    method: &Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Body,
    now: OffsetDateTime,
) -> Result<Request<Body>, String> {
    let uri: Uri = format!("{}{path}", account.endpoint).parse().map_err(|error| format!("bad address: {error}"))?;
    let host = uri.authority().ok_or("the endpoint names no host")?.to_string();
    let stamp = now.format(STAMP).map_err(|error| error.to_string())?;
    let payload = "UNSIGNED-PAYLOAD";
    let mut all = headers.to_vec();
    all.extend([("host", &*host), ("x-amz-content-sha256", payload), ("x-amz-date", &*stamp)]);
    all.sort_unstable();
    let signed = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (resource, query) = path.split_once('?').unwrap_or((path, ""));
    let canonical = format!("{method}\n{resource}\n{query}\n{lines}\n{signed}\n{payload}");
    let date = &stamp[..8];
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", account.secret_key).into_bytes();
    for step in [date, REGION, "s3", "aws4_request"] {
        key = mac(&key, step.as_bytes());
    }
    let signature = hex::encode(mac(&key, text.as_bytes()));
    let access = &account.access_key;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature={signature}");
    let mut request = Request::builder().method(method).uri(uri).header("authorization", authorization);
    for (name, value) in all {
        request = request.header(name, value);
    }
    request.body(body).map_err(|error| error.to_string())
}

fn single(body: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(body))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
