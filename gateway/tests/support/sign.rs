//! Signatures of AWS, versions 4 and 2, written from their documents: the tests must not trust the verifier's own code.

use s3s::crypto::{Checksum, Sha1, Sha256};

pub(crate) const REGION: &str = "us-east-1";
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A key pair and the moment of signing.
#[derive(Clone)]
pub(crate) struct Signer {
    pub access_key: String,
    pub secret_key: String,
    /// `20251121T080000Z`
    pub amz_date: String,
    /// `s3` or `sts`.
    pub service: &'static str,
    /// Of temporary credentials.
    pub token: Option<String>,
}

impl Signer {
    pub(crate) fn now(access_key: &str, secret_key: &str) -> Self {
        Self::at(access_key, secret_key, time::OffsetDateTime::now_utc())
    }

    pub(crate) fn at(access_key: &str, secret_key: &str, when: time::OffsetDateTime) -> Self {
        let amz_date = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            when.year(),
            u8::from(when.month()),
            when.day(),
            when.hour(),
            when.minute(),
            when.second()
        );
        Self { access_key: access_key.into(), secret_key: secret_key.into(), amz_date, service: "s3", token: None }
    }

    fn date(&self) -> &str {
        &self.amz_date[..8]
    }

    pub(crate) fn scope(&self) -> String {
        format!("{}/{REGION}/{}/aws4_request", self.date(), self.service)
    }

    fn sign(&self, string_to_sign: &str) -> String {
        let key = hmac::<Sha256>(format!("AWS4{}", self.secret_key).as_bytes(), self.date().as_bytes());
        let key = hmac::<Sha256>(&key, REGION.as_bytes());
        let key = hmac::<Sha256>(&key, self.service.as_bytes());
        let key = hmac::<Sha256>(&key, b"aws4_request");
        hex::encode(hmac::<Sha256>(&key, string_to_sign.as_bytes()))
    }

    /// The signature of a form's policy.
    pub(crate) fn policy_signature(&self, policy: &str) -> String {
        self.sign(policy)
    }

    /// The same in version 2.
    pub(crate) fn policy_signature_v2(&self, policy: &str) -> String {
        let raw = hmac::<Sha1>(self.secret_key.as_bytes(), policy.as_bytes());
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, raw)
    }

    /// The signature of a request; `headers` are lower case and sorted, and all of them are signed.
    pub(crate) fn signature(
        &self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        headers: &[(String, String)],
        payload: &str,
    ) -> String {
        let one_line = |(name, value): &(String, String)| {
            let words: Vec<&str> = value.split_whitespace().collect();
            format!("{name}:{}\n", words.join(" "))
        };
        let canonical_headers: String = headers.iter().map(one_line).collect();
        let canonical =
            format!("{method}\n{path}\n{}\n{canonical_headers}\n{}\n{payload}", canonical_query(query), names(headers));
        let digest = hex::encode(Sha256::checksum(canonical.as_bytes()));
        self.sign(&format!("AWS4-HMAC-SHA256\n{}\n{}\n{digest}", self.amz_date, self.scope()))
    }

    pub(crate) fn authorization(&self, headers: &[(String, String)], signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.access_key,
            self.scope(),
            names(headers)
        )
    }

    /// The signature of one chunk of an `aws-chunked` body, after that of the one before.
    pub(crate) fn chunk_signature(&self, previous: &str, chunk: &[u8]) -> String {
        let digest = hex::encode(Sha256::checksum(chunk));
        self.sign(&format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{EMPTY_SHA256}\n{digest}",
            self.amz_date,
            self.scope()
        ))
    }

    pub(crate) fn trailer_signature(&self, previous: &str, trailer: &str) -> String {
        let digest = hex::encode(Sha256::checksum(trailer.as_bytes()));
        self.sign(&format!("AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{previous}\n{digest}", self.amz_date, self.scope()))
    }

    /// The query of a URL presigned with version 4, only `host` signed.
    pub(crate) fn presign(&self, method: &str, path: &str, host: &str, expires: u32, more: &[(&str, &str)]) -> String {
        let mut query: Vec<(String, String)> = vec![
            ("X-Amz-Algorithm".into(), "AWS4-HMAC-SHA256".into()),
            ("X-Amz-Credential".into(), format!("{}/{}", self.access_key, self.scope())),
            ("X-Amz-Date".into(), self.amz_date.clone()),
            ("X-Amz-Expires".into(), expires.to_string()),
            ("X-Amz-SignedHeaders".into(), "host".into()),
        ];
        query.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let headers = [("host".to_owned(), host.to_owned())];
        let signature = self.signature(method, path, &query, &headers, "UNSIGNED-PAYLOAD");
        query.push(("X-Amz-Signature".into(), signature));
        canonical_query(&query)
    }

    /// The query of a URL presigned with version 2, valid until `expires` (Unix seconds).
    pub(crate) fn presign_v2(&self, method: &str, path: &str, expires: i64) -> String {
        self.presign_v2_with(method, path, expires, "")
    }

    /// The same over `x-amz-*` headers, each as `name:value\n`, in order.
    pub(crate) fn presign_v2_with(&self, method: &str, path: &str, expires: i64, amz_headers: &str) -> String {
        let string_to_sign = format!("{method}\n\n\n{expires}\n{amz_headers}{path}");
        let raw = hmac::<Sha1>(self.secret_key.as_bytes(), string_to_sign.as_bytes());
        let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, raw);
        format!("AWSAccessKeyId={}&Expires={expires}&Signature={}", self.access_key, encode(&signature))
    }
}

fn names(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
}

/// Sorted and encoded, as it is signed and sent.
pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> = query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

pub(crate) fn encode(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn hmac<C: Checksum>(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        let hashed = C::checksum(key);
        block[..hashed.as_ref().len()].copy_from_slice(hashed.as_ref());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let digest = |pad: u8, message: &[u8]| {
        let mut hasher = C::new();
        hasher.update(&block.map(|byte| byte ^ pad));
        hasher.update(message);
        hasher.finalize().as_ref().to_vec()
    };
    let inner = digest(0x36, message);
    digest(0x5c, &inner)
}
