//! One S3 request, built as a client builds it, signed in any of the ways that clients sign.

use std::{fmt, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use s3s::crypto::{Checksum, Crc32, Md5, Sha256};

use crate::{
    sign::{Signer, canonical_query},
    wire::{Answer, Wire},
};

/// How the body is vouched for.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Its SHA-256 is signed.
    Signed,
    /// A SHA-256 that is not its own is signed.
    SignedAs(String),
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER` with this trailer.
    UnsignedTrailer(String, String),
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD` in chunks; `damage` flips a byte after signing.
    SignedChunks {
        damage: bool,
    },
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
    SignedTrailer(String, String),
}

#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    payload: Payload,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}?{} ({} bytes)", self.method, self.path, canonical_query(&self.query), self.body.len())
    }
}

const CHUNK_BYTES: usize = 8192;

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
            payload: Payload::Signed,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn head(path: &str) -> Self {
        Self::new("HEAD", path)
    }

    pub(crate) fn put(path: &str) -> Self {
        Self::new("PUT", path)
    }

    pub(crate) fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The Content-MD5 of the body.
    pub(crate) fn content_md5(self) -> Self {
        let value = STANDARD.encode(Md5::checksum(&self.body));
        self.header("content-md5", &value)
    }

    /// Signed, as bytes for the wire.
    pub(crate) fn encode(&self, host: &str, signer: &Signer) -> Vec<u8> {
        let (content_sha256, streaming) = self.content_sha256();
        let mut headers = self.headers.clone();
        headers.push(("host".into(), host.into()));
        headers.push(("x-amz-date".into(), signer.amz_date.clone()));
        // Clients of other services do not tell it.
        if signer.service == "s3" || !matches!(self.payload, Payload::Signed) {
            headers.push(("x-amz-content-sha256".into(), content_sha256.clone()));
        }
        if let Some(token) = &signer.token {
            headers.push(("x-amz-security-token".into(), token.clone()));
        }
        if streaming {
            headers.push(("x-amz-decoded-content-length".into(), self.body.len().to_string()));
            headers.push(("content-encoding".into(), "aws-chunked".into()));
        }
        if let Payload::UnsignedTrailer(name, _) | Payload::SignedTrailer(name, _) = &self.payload {
            headers.push(("x-amz-trailer".into(), name.clone()));
        }
        headers.sort();
        let signature = signer.signature(&self.method, &self.path, &self.query, &headers, &content_sha256);
        let authorization = signer.authorization(&headers, &signature);
        let body = self.encode_body(signer, &signature);
        let query = canonical_query(&self.query);
        let question = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {}{question}{query} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("authorization: {authorization}\r\n"));
        if !body.is_empty() || self.method == "PUT" || self.method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    fn content_sha256(&self) -> (String, bool) {
        match &self.payload {
            Payload::Signed => (hex::encode(Sha256::checksum(&self.body)), false),
            Payload::SignedAs(digest) => (digest.clone(), false),
            Payload::Unsigned => ("UNSIGNED-PAYLOAD".into(), false),
            Payload::UnsignedTrailer(..) => ("STREAMING-UNSIGNED-PAYLOAD-TRAILER".into(), true),
            Payload::SignedChunks { .. } => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD".into(), true),
            Payload::SignedTrailer(..) => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".into(), true),
        }
    }

    fn encode_body(&self, signer: &Signer, seed: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut signature = seed.to_owned();
        let empty: &[u8] = &[];
        let chunks = self.body.chunks(CHUNK_BYTES).chain([empty]);
        match &self.payload {
            Payload::Signed | Payload::SignedAs(_) | Payload::Unsigned => out = self.body.clone(),
            Payload::UnsignedTrailer(name, value) => {
                for chunk in chunks {
                    // Upper case, as pyarrow writes it.
                    out.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                    if !chunk.is_empty() {
                        out.extend_from_slice(chunk);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(format!("{name}:{value}\r\n\r\n").as_bytes());
            }
            Payload::SignedChunks { damage } => {
                for chunk in chunks {
                    signature = signer.chunk_signature(&signature, chunk);
                    let mut chunk = chunk.to_vec();
                    if *damage && let Some(first) = chunk.first_mut() {
                        *first ^= 1;
                    }
                    push_signed_chunk(&mut out, &chunk, &signature);
                }
            }
            Payload::SignedTrailer(name, value) => {
                for chunk in chunks {
                    signature = signer.chunk_signature(&signature, chunk);
                    out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
                    if !chunk.is_empty() {
                        out.extend_from_slice(chunk);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                let trailer = signer.trailer_signature(&signature, &format!("{name}:{value}\n"));
                out.extend_from_slice(
                    format!("{name}:{value}\r\nx-amz-trailer-signature:{trailer}\r\n\r\n").as_bytes(),
                );
            }
        }
        out
    }

    /// As nobody sends it.
    pub(crate) async fn send_unsigned(&self, address: SocketAddr) -> Answer {
        let query = canonical_query(&self.query);
        let question = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {}{question}{query} HTTP/1.1\r\nhost: {address}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut wire = Wire::connect(address).await;
        wire.send([head.as_bytes(), &self.body].concat()).await;
        wire.answer(self.method != "HEAD").await.unwrap_or_else(|error| panic!("{self}: {error:?}"))
    }

    pub(crate) async fn send(&self, address: SocketAddr, signer: &Signer) -> Answer {
        let mut wire = Wire::connect(address).await;
        wire.send(self.encode(&address.to_string(), signer)).await;
        wire.answer(self.method != "HEAD").await.unwrap_or_else(|error| panic!("{self}: {error:?}"))
    }
}

fn push_signed_chunk(out: &mut Vec<u8>, chunk: &[u8], signature: &str) {
    out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
    out.extend_from_slice(chunk);
    out.extend_from_slice(b"\r\n");
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::checksum(bytes))
}

pub(crate) fn crc32_base64(bytes: &[u8]) -> String {
    STANDARD.encode(Crc32::checksum(bytes))
}
