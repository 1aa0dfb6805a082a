//! What requests say of encryption, and what is said of it in answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use cairn_schema::record::{Encryption, EncryptionKind};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::{
    S3Error, S3Result,
    crypto::{Checksum, Md5},
    s3_error,
};

use crate::{
    encryption::Secret,
    error::{custom, invalid_argument},
    honour,
};

const METHOD: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const CUSTOMER_ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-key";
const CUSTOMER_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
const SOURCE_ALGORITHM: &str = "x-amz-copy-source-server-side-encryption-customer-algorithm";
const SOURCE_KEY: &str = "x-amz-copy-source-server-side-encryption-customer-key";
const SOURCE_MD5: &str = "x-amz-copy-source-server-side-encryption-customer-key-md5";

/// The two methods by keys that are not the client's.
pub(super) const AES256: &str = "AES256";
pub(super) const KMS: &str = "aws:kms";
/// What a key management is given as associated data, at most.
const CONTEXT_MAX_BYTES: usize = 2048;
const KEY_ID_MAX_BYTES: usize = 256;

/// A key that the client keeps.
#[derive(Clone, Debug)]
pub(super) struct CustomerKey {
    pub(super) secret: Secret,
    /// As it was sent, which is how it is told.
    pub(super) md5: String,
}

/// A method by keys that are not the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managed {
    /// Otherwise by the cluster's key.
    pub(super) kms: bool,
    pub(super) key_id: Option<String>,
    pub(super) context: Option<String>,
    /// None: as the bucket has it.
    pub(super) bucket_key: Option<bool>,
}

/// How a request wants what it makes to be encrypted.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// As the bucket has it.
    Nothing,
    Managed(Managed),
    Customer(CustomerKey),
}

impl Asked {
    /// `secure`: nobody can have listened.
    pub(super) fn of(headers: &HeaderMap, secure: bool) -> S3Result<Self> {
        let customer = CustomerKey::of(headers, secure)?;
        let method = header(headers, METHOD)?;
        match (method, customer) {
            (Some(method), Some(_)) => {
                let message = "Server Side Encryption with Customer provided key is incompatible with the encryption method specified";
                Err(invalid_argument(METHOD, method, message))
            }
            (None, Some(customer)) => Ok(Self::Customer(customer)),
            (method, None) => managed(headers, method),
        }
    }

    pub(super) fn customer(&self) -> Option<&CustomerKey> {
        match self {
            Self::Customer(customer) => Some(customer),
            Self::Nothing | Self::Managed(_) => None,
        }
    }
}

fn managed(headers: &HeaderMap, method: Option<&str>) -> S3Result<Asked> {
    let key_id = header(headers, KEY_ID)?;
    let context = header(headers, CONTEXT)?;
    let bucket_key = header(headers, BUCKET_KEY)?.map(flag).transpose()?;
    let kms = match method {
        // Only of the bucket's own method.
        None if key_id.is_none() && context.is_none() => {
            return Ok(match bucket_key {
                None => Asked::Nothing,
                Some(_) => return Err(needs_kms(BUCKET_KEY, "")),
            });
        }
        Some(KMS) => true,
        Some(AES256) => false,
        None => false,
        Some("aws:kms:dsse" | "aws:fsx") => return Err(honour::not_implemented(METHOD)),
        Some(other) => {
            return Err(invalid_argument(METHOD, other, "The encryption method specified is not supported"));
        }
    };
    for (name, value) in [(KEY_ID, key_id), (CONTEXT, context)] {
        if let Some(value) = value
            && !kms
        {
            return Err(needs_kms(name, value));
        }
    }
    if let Some(key_id) = key_id {
        check_key_id(key_id)?;
    }
    if let Some(context) = context {
        check_context(context)?;
    }
    let own = |text: Option<&str>| text.map(ToOwned::to_owned);
    Ok(Asked::Managed(Managed { kms, key_id: own(key_id), context: own(context), bucket_key }))
}

fn needs_kms(name: &str, value: &str) -> S3Error {
    let message = format!("Server Side Encryption with AWS KMS managed key requires HTTP header {METHOD} : {KMS}");
    invalid_argument(name, value, message)
}

pub(super) fn check_key_id(key_id: &str) -> S3Result<()> {
    if key_id.is_empty() || key_id.len() > KEY_ID_MAX_BYTES {
        return Err(invalid_argument(KEY_ID, key_id, "Invalid KMS key id"));
    }
    Ok(())
}

/// Base64 of a JSON object of strings.
fn check_context(context: &str) -> S3Result<()> {
    let parsed = STANDARD.decode(context).ok().filter(|_| context.len() <= CONTEXT_MAX_BYTES);
    let parsed = parsed.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
    let is_map =
        parsed.is_some_and(|json| json.as_object().is_some_and(|map| map.values().all(serde_json::Value::is_string)));
    if is_map {
        return Ok(());
    }
    let message = "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map";
    Err(invalid_argument(CONTEXT, context, message))
}

fn flag(text: &str) -> S3Result<bool> {
    match text {
        "true" | "True" => Ok(true),
        "false" | "False" => Ok(false),
        other => Err(invalid_argument(BUCKET_KEY, other, format!("The value of the header {BUCKET_KEY} is invalid."))),
    }
}

impl CustomerKey {
    /// That of the object which a request makes or reads.
    pub(super) fn of(headers: &HeaderMap, secure: bool) -> S3Result<Option<Self>> {
        Self::read(headers, [CUSTOMER_ALGORITHM, CUSTOMER_KEY, CUSTOMER_MD5], secure)
    }

    /// That of the source of a copy.
    pub(super) fn of_source(headers: &HeaderMap, secure: bool) -> S3Result<Option<Self>> {
        Self::read(headers, [SOURCE_ALGORITHM, SOURCE_KEY, SOURCE_MD5], secure)
    }

    /// No message has anything of the key.
    fn read(headers: &HeaderMap, names: [&str; 3], secure: bool) -> S3Result<Option<Self>> {
        let [algorithm, key, md5] = names;
        let all = [header(headers, algorithm)?, header_unshown(headers, key)?, header(headers, md5)?];
        let [algorithm_sent, key_sent, md5_sent] = match all {
            [None, None, None] => return Ok(None),
            all => all,
        };
        if !secure {
            return Err(s3_error!(
                InvalidRequest,
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
            ));
        }
        let lacks = |name: &str, what: &str| {
            let message =
                format!("Requests specifying Server Side Encryption with Customer provided keys must provide {what}.");
            invalid_argument(name, "null", message)
        };
        match algorithm_sent {
            None => return Err(lacks(algorithm, "a valid encryption algorithm")),
            Some(AES256) => {}
            Some(_) => {
                let message = "The encryption request you specified is not valid. The valid value is AES256.";
                return Err(custom("InvalidEncryptionAlgorithmError", StatusCode::BAD_REQUEST, message));
            }
        }
        let key_sent = key_sent.ok_or_else(|| lacks(key, "an appropriate secret key"))?;
        let md5_sent = md5_sent.ok_or_else(|| lacks(md5, "the client calculated MD5 of the secret key"))?;
        let decoded = zeroize::Zeroizing::new(STANDARD.decode(key_sent).unwrap_or_default());
        let wrong = "The secret key was invalid for the specified algorithm.";
        let secret = Secret::of(&decoded).ok_or_else(|| invalid_argument(key, "null", wrong))?;
        // Both are the client's: nothing is told that it does not know.
        if STANDARD.decode(md5_sent).ok().as_deref() != Some(Md5::checksum(&decoded).as_ref()) {
            let message = "The calculated MD5 hash of the key did not match the hash that was provided.";
            return Err(invalid_argument(md5, md5_sent, message));
        }
        Ok(Some(Self { secret, md5: md5_sent.to_owned() }))
    }
}

/// Whether a request says anything of how what it makes is encrypted.
pub(super) fn says_anything(headers: &HeaderMap) -> bool {
    [METHOD, KEY_ID, CONTEXT, BUCKET_KEY, CUSTOMER_ALGORITHM].iter().any(|name| headers.contains_key(*name))
}

/// A header that may be there once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> S3Result<Option<&'a str>> {
    header_unshown(headers, name).map_err(|_| {
        let shown = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let message = format!("The value of the header {name} is invalid.");
        invalid_argument(name, &shown.unwrap_or_default(), message)
    })
}

/// The same of one that no answer shows.
fn header_unshown<'a>(headers: &'a HeaderMap, name: &str) -> S3Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let invalid = || invalid_argument(name, "null", format!("The value of the header {name} is invalid."));
    text.map(Some).ok_or_else(invalid)
}

/// What answers say of how an object is encrypted. `customer` is the key that the request came with.
pub(super) fn told(encryption: Option<&Encryption>, customer: Option<&CustomerKey>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(encryption) = encryption else { return headers };
    let mut say = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    match encryption.kind {
        EncryptionKind::Cluster => say(METHOD, AES256),
        EncryptionKind::Kms => {
            say(METHOD, KMS);
            say(KEY_ID, &encryption.key_id);
            if encryption.bucket_key {
                say(BUCKET_KEY, "true");
            }
        }
        EncryptionKind::Customer => {
            say(CUSTOMER_ALGORITHM, AES256);
            if let Some(customer) = customer {
                say(CUSTOMER_MD5, &customer.md5);
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn refused(pairs: &[(&str, &str)], secure: bool) -> String {
        let error = Asked::of(&headers(pairs), secure).unwrap_err();
        format!("{}: {}", error.code().as_str(), error.message().unwrap_or_default())
    }

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn md5() -> String {
        STANDARD.encode(Md5::checksum(b"0123456789abcdef0123456789abcdef"))
    }

    #[test]
    fn customers_keys_are_whole_or_refused() {
        let md5 = md5();
        let all = [(CUSTOMER_ALGORITHM, "AES256"), (CUSTOMER_KEY, KEY), (CUSTOMER_MD5, &md5)];
        assert!(matches!(Asked::of(&headers(&all), true).unwrap(), Asked::Customer(_)));
        assert!(refused(&all, false).starts_with("InvalidRequest: Requests specifying"));
        for (without, code) in [(0, "encryption algorithm"), (1, "an appropriate secret key"), (2, "MD5")] {
            let mut some = all.to_vec();
            some.remove(without);
            let refusal = refused(&some, true);
            assert!(refusal.starts_with("InvalidArgument") && refusal.contains(code), "{refusal}");
        }
        let changed = |at: usize, value: &'static str| {
            let mut changed = all.to_vec();
            changed[at].1 = value;
            refused(&changed, true)
        };
        assert!(changed(0, "AES128").starts_with("InvalidEncryptionAlgorithmError"));
        for key in ["", "AAAA", "not base64!", "MDEyMzQ1Njc4OWFiY2RlZg=="] {
            let refusal = changed(1, key);
            assert!(refusal.contains("The secret key was invalid"), "{refusal}");
        }
        assert!(changed(2, "AAAAAAAAAAAAAAAAAAAAAA==").contains("did not match"));
        let twice = [&all[..], &[(CUSTOMER_KEY, KEY)]].concat();
        assert!(!refused(&twice, true).contains(KEY));
        let both = [&all[..], &[(METHOD, "AES256")]].concat();
        assert!(refused(&both, true).contains("incompatible"));
        let shown = format!("{:?}", Asked::of(&headers(&all), true).unwrap());
        assert!(!shown.contains(KEY) && !shown.contains("0123"), "{shown}");
    }

    #[test]
    fn methods_are_known_or_refused() {
        let asked = |pairs: &[(&str, &str)]| match Asked::of(&headers(pairs), false).unwrap() {
            Asked::Managed(managed) => Some(managed),
            _ => None,
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(METHOD, "AES256")]), Some(Managed::default()));
        let context = STANDARD.encode(r#"{"a":"b"}"#);
        let kms = [(METHOD, "aws:kms"), (KEY_ID, "k"), (CONTEXT, &context), (BUCKET_KEY, "true")];
        let wanted =
            Managed { kms: true, key_id: Some("k".into()), context: Some(context.clone()), bucket_key: Some(true) };
        assert_eq!(asked(&kms), Some(wanted));
        for (pairs, refusal) in [
            (&[(METHOD, "aes256")][..], "InvalidArgument"),
            (&[(METHOD, "aws:kms:dsse")], "NotImplemented"),
            (&[(KEY_ID, "k")], "InvalidArgument"),
            (&[(METHOD, "AES256"), (KEY_ID, "k")], "InvalidArgument"),
            (&[(METHOD, "aws:kms"), (KEY_ID, "")], "InvalidArgument"),
            (&[(METHOD, "aws:kms"), (CONTEXT, "e")], "InvalidArgument"),
            (&[(METHOD, "aws:kms"), (CONTEXT, "WzFd")], "InvalidArgument"),
            (&[(METHOD, "aws:kms"), (BUCKET_KEY, "yes")], "InvalidArgument"),
            (&[(BUCKET_KEY, "true")], "InvalidArgument"),
        ] {
            assert!(refused(pairs, true).starts_with(refusal), "{pairs:?}");
        }
    }
}
