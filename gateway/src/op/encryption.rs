//! By which keys what is made is encrypted, and what is read is decrypted.

use std::sync::Arc;

use cairn_actors::{sealing::Sealer, store::Sealing};
use cairn_schema::record::{Encryption, EncryptionKind};
use http::StatusCode;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::{
    Api,
    encryption_headers::{Asked, CustomerKey, Managed},
};
use crate::{
    context::RequestContext,
    encryption::{KeyError, Keyring, Wanted, open_customer, wrap_customer},
    error::custom,
    honour,
};

const METHOD: &str = "x-amz-server-side-encryption";

/// What a version is to be encrypted by, once what the bucket has is known.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    Nothing,
    Managed(Managed),
    Customer(CustomerKey),
}

impl Api {
    /// Whether customers' keys may come with a request: over TLS, or where the configuration says that nobody listens.
    pub(super) fn is_secure<T>(&self, request: &S3Request<T>) -> bool {
        self.is_secure_in(RequestContext::of(&request.extensions))
    }

    pub(super) fn is_secure_in(&self, context: Option<&RequestContext>) -> bool {
        self.customer_keys_over_http || context.and_then(RequestContext::tls).is_some()
    }

    fn keyring(&self, header: &str) -> S3Result<&Keyring> {
        self.keyring.as_ref().ok_or_else(|| honour::not_implemented(header))
    }

    /// What a new version in a bucket is encrypted by: what is asked for, or what the bucket has.
    pub(super) async fn choice(&self, bucket: &str, asked: Asked) -> S3Result<Choice> {
        let default = self.bucket_encryption(bucket).await?;
        let by_default = matches!(asked, Asked::Nothing);
        let choice = match (asked, &default) {
            (Asked::Customer(_), Some(default)) if default.blocks_customers => {
                let message = "This bucket does not allow encryption with keys of customers (SSE-C).";
                return Err(s3_error!(AccessDenied, "{message}"));
            }
            (Asked::Customer(key), _) => Choice::Customer(key),
            (Asked::Managed(managed), default) => {
                let of_bucket = default.as_ref().is_some_and(|default| default.bucket_key);
                let bucket_key = managed.kms && managed.bucket_key.unwrap_or(of_bucket);
                Choice::Managed(Managed { bucket_key: Some(bucket_key), ..managed })
            }
            (Asked::Nothing, Some(default)) => match &default.method {
                Some(method) => {
                    let bucket_key = Some(method.kms && default.bucket_key);
                    Choice::Managed(Managed { bucket_key, ..method.clone() })
                }
                None => Choice::Nothing,
            },
            (Asked::Nothing, None) => Choice::Nothing,
        };
        if let Choice::Managed(_) = choice {
            // What the bucket has encrypted is never stored in the clear because a node lacks keys.
            self.keyring(METHOD).map_err(|error| if by_default { from_key(KeyError::NoKeys) } else { error })?;
        }
        Ok(choice)
    }

    /// A new key for a version.
    pub(super) async fn sealing(&self, bucket: &str, choice: &Choice) -> S3Result<Option<Sealing>> {
        let (kept, key) = match choice {
            Choice::Nothing => return Ok(None),
            Choice::Customer(customer) => wrap_customer(&customer.secret).map_err(from_key)?,
            Choice::Managed(managed) => {
                let wanted = Wanted {
                    kind: kind_of(managed),
                    key_id: managed.key_id.as_deref(),
                    context: managed.context.as_deref(),
                    bucket,
                    bucket_key: managed.bucket_key == Some(true),
                };
                self.keyring(METHOD)?.wrap(wanted).await.map_err(from_key)?
            }
        };
        Ok(Some(Sealing { sealer: Arc::new(key), kept }))
    }

    /// What a request that makes an object has it sealed by.
    pub(super) async fn sealing_asked(&self, bucket: &str, asked: Asked) -> S3Result<Option<Sealing>> {
        let choice = self.choice(bucket, asked).await?;
        self.sealing(bucket, &choice).await
    }

    /// What opens a version for a request that came with this key, or with none.
    pub(super) async fn opener(
        &self,
        encryption: Option<&Encryption>,
        customer: Option<&CustomerKey>,
    ) -> S3Result<Option<Arc<dyn Sealer>>> {
        check_customer(encryption, customer)?;
        let Some(encryption) = encryption else { return Ok(None) };
        let key = match customer {
            Some(customer) => open_customer(encryption, &customer.secret).map_err(other_customer)?,
            None => {
                let keyring = self.keyring.as_ref().ok_or_else(|| from_key(KeyError::NoKeys))?;
                keyring.open(encryption).await.map_err(from_key)?
            }
        };
        Ok(Some(Arc::new(key)))
    }

    /// Whether a request may be told of a version without reading it.
    pub(super) fn check_told(&self, encryption: Option<&Encryption>, customer: Option<&CustomerKey>) -> S3Result<()> {
        check_customer(encryption, customer)?;
        if let (Some(encryption), Some(customer)) = (encryption, customer) {
            open_customer(encryption, &customer.secret).map_err(other_customer)?;
        }
        Ok(())
    }

    /// What seals the parts of an upload, for a request that came with this key, or with none.
    pub(super) async fn part_sealer(
        &self,
        upload: Option<&Encryption>,
        customer: Option<&CustomerKey>,
    ) -> S3Result<Option<Arc<dyn Sealer>>> {
        let by_customer = upload.is_some_and(|upload| upload.kind == EncryptionKind::Customer);
        match (by_customer, customer) {
            (true, None) => Err(s3_error!(
                InvalidRequest,
                "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
            )),
            (false, Some(_)) => Err(s3_error!(
                InvalidRequest,
                "The multipart upload initiate did not request encryption. Please resend the request without sending encryption parameters."
            )),
            (true, Some(_)) => self.opener(upload, customer).await.map_err(|error| match error.code() {
                s3s::S3ErrorCode::AccessDenied => s3_error!(
                    InvalidRequest,
                    "The provided encryption parameters did not match the ones used originally."
                ),
                _ => error,
            }),
            (false, None) => self.opener(upload, None).await,
        }
    }

    /// Whether a copy of a version may share its bytes and its key, and if not what it is sealed by.
    pub(super) fn may_share(&self, source: Option<&Encryption>, target: &Choice) -> bool {
        match (source, target) {
            (None, Choice::Nothing) => true,
            (Some(source), Choice::Managed(managed)) => {
                let same_key = self
                    .keyring
                    .as_ref()
                    .is_some_and(|keyring| source.key_id == keyring.key_name(managed.key_id.as_deref()));
                let same_sharing = !managed.kms || managed.bucket_key == Some(source.bucket_key);
                source.kind == kind_of(managed) && same_key && source.context == managed.context && same_sharing
            }
            _ => false,
        }
    }

    /// What a copy is encrypted by: as S3 has it the source does not matter, but that nothing is stored in the clear
    /// that was not, as long as there are keys.
    pub(super) async fn choice_of_copy(
        &self,
        bucket: &str,
        asked: Asked,
        source: Option<&Encryption>,
    ) -> S3Result<Choice> {
        let choice = self.choice(bucket, asked).await?;
        let (Choice::Nothing, Some(source), Some(_)) = (&choice, source, &self.keyring) else { return Ok(choice) };
        Ok(Choice::Managed(match source.kind {
            EncryptionKind::Kms => Managed {
                kms: true,
                key_id: Some(source.key_id.clone()),
                context: source.context.clone(),
                bucket_key: Some(source.bucket_key),
            },
            EncryptionKind::Cluster | EncryptionKind::Customer => Managed::default(),
        }))
    }
}

fn kind_of(managed: &Managed) -> EncryptionKind {
    if managed.kms { EncryptionKind::Kms } else { EncryptionKind::Cluster }
}

/// Customers' keys must come with requests for what they encrypt, and with no others.
fn check_customer(encryption: Option<&Encryption>, customer: Option<&CustomerKey>) -> S3Result<()> {
    let by_customer = encryption.is_some_and(|encryption| encryption.kind == EncryptionKind::Customer);
    match (by_customer, customer) {
        (true, None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
        )),
        (false, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
        _ => Ok(()),
    }
}

fn other_customer(error: KeyError) -> S3Error {
    match error {
        KeyError::NotOpened => s3_error!(AccessDenied),
        error => from_key(error),
    }
}

/// What keys have to do with is told to the operator; clients hear what they can do about it.
fn from_key(error: KeyError) -> S3Error {
    let kms = |code, message: String| custom(code, StatusCode::BAD_REQUEST, message);
    match error {
        KeyError::NoSuchKey(name) => kms("KMS.NotFoundException", format!("Key '{name}' does not exist.")),
        KeyError::Denied { key, why } => {
            tracing::warn!(key, why, "the key management does not allow the use of a key");
            let message = format!("The key management does not allow the use of key '{key}'.");
            custom("KMS.AccessDeniedException", StatusCode::FORBIDDEN, message)
        }
        KeyError::Away(why) => {
            tracing::error!(
                why,
                "the key management does not answer: what it encrypts can neither be read nor written"
            );
            s3_error!(
                ServiceUnavailable,
                "The key management does not answer, so that what its keys encrypt can neither be read nor written now; please try again."
            )
        }
        KeyError::NoKeys | KeyError::NoSuchVersion { .. } => {
            tracing::error!(%error, "an object is encrypted by a key that this node does not have, or is to be");
            s3_error!(ServiceUnavailable, "The object is encrypted by a key that this node does not have, or is to be.")
        }
        KeyError::NotOpened | KeyError::UnknownFormat(_) | KeyError::Random => {
            tracing::error!(%error, "a key of an object cannot be had");
            s3_error!(InternalError, "The object's key cannot be opened.")
        }
    }
}
