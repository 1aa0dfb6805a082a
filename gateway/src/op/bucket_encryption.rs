//! What buckets have new objects encrypted by. Kept as S3 writes it; read again within seconds of a change.

use std::sync::Arc;

use bytes::Bytes;
use cairn_schema::{MetaError, record::BucketDocument};
use s3s::{Body, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    bucket_documents::Absent,
    documents::DocumentRequest,
    encryption_headers::{AES256, KMS, Managed, check_key_id},
};
use crate::{
    answer::documented,
    error::from_meta,
    xml::{Element, Writer, XmlError, parse},
};

const NO_ENCRYPTION: Absent =
    Absent("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found");
const ROOT: &str = "ServerSideEncryptionConfiguration";

/// A bucket's one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketEncryption {
    /// Of objects for which no other is asked.
    pub(super) method: Option<Managed>,
    pub(super) bucket_key: bool,
    /// Whether keys of customers are refused.
    pub(super) blocks_customers: bool,
    /// As it was put, so that it reads back so.
    says_bucket_key: bool,
    says_blocked: bool,
}

impl Api {
    pub(super) async fn do_get_bucket_encryption(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        let stored = self.stored_document(&request.input.bucket, BucketDocument::Encryption, NO_ENCRYPTION).await?;
        Ok(documented(stored))
    }

    pub(super) async fn do_put_bucket_encryption(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(false)?;
        if self.keyring.is_none() {
            // As it would be answered if no node could ever do it: this one cannot.
            return Err(s3_error!(NotImplemented, "PutBucketEncryption is not implemented."));
        }
        let encryption = BucketEncryption::read(request.root(ROOT)?)?;
        self.store_document(&request.bucket, BucketDocument::Encryption, Some(encryption.write())).await?;
        Ok(S3Response::new(Body::empty()))
    }

    pub(super) async fn do_delete_bucket_encryption(
        &self,
        request: S3Request<DeleteBucketEncryptionInput>,
    ) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
        self.store_document(&request.input.bucket, BucketDocument::Encryption, None).await?;
        Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
    }

    /// What a bucket has, as of 3 s ago at most. One that cannot be read lets nothing be written.
    pub(super) async fn bucket_encryption(&self, bucket: &str) -> S3Result<Option<Arc<BucketEncryption>>> {
        let read = async |_| {
            let stored = match self.meta().bucket_document(bucket, BucketDocument::Encryption).await {
                Ok(stored) => stored,
                // The operation tells.
                Err(MetaError::NoSuchBucket(_)) => None,
                Err(error) => return Err(from_meta(error)),
            };
            let bytes = stored.as_ref().map_or(0, Vec::len);
            Ok((stored.map(|stored| read_stored(&stored)).transpose()?.map(Arc::new), bytes))
        };
        let (encryption, _) = self.encryptions.get(bucket, |(_, bytes)| *bytes, read).await?;
        Ok(encryption)
    }
}

/// It was read strictly before it was stored.
fn read_stored(stored: &[u8]) -> S3Result<BucketEncryption> {
    let read = || -> S3Result<BucketEncryption> { BucketEncryption::read(parse(stored)?.root(ROOT)?) };
    read().map_err(|error| {
        tracing::error!(?error, "a stored encryption configuration cannot be read");
        s3_error!(InternalError, "The encryption configuration of the bucket cannot be read.")
    })
}

impl BucketEncryption {
    fn read(root: &Element) -> S3Result<Self> {
        let ([], rules) = root.fields_and_some([], "Rule", 1)?;
        let rule = rules.first().ok_or(XmlError::Empty)?;
        let [default, bucket_key, blocked] =
            rule.fields(["ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes"])?;
        if default.is_none() && bucket_key.is_none() && blocked.is_none() {
            let (parent, element) = ("Rule".into(), "ApplyServerSideEncryptionByDefault");
            return Err(XmlError::Missing { parent, element }.into());
        }
        Ok(Self {
            method: default.map(read_method).transpose()?,
            bucket_key: bucket_key.map(Element::flag).transpose()?.unwrap_or(false),
            blocks_customers: blocked.map(read_blocked).transpose()?.unwrap_or(false),
            says_bucket_key: bucket_key.is_some(),
            says_blocked: blocked.is_some(),
        })
    }

    fn write(&self) -> Bytes {
        Writer::document(ROOT, |xml| {
            xml.element("Rule", |xml| {
                if let Some(method) = &self.method {
                    xml.element("ApplyServerSideEncryptionByDefault", |xml| {
                        xml.text("SSEAlgorithm", if method.kms { KMS } else { AES256 });
                        if let Some(key_id) = &method.key_id {
                            xml.text("KMSMasterKeyID", key_id);
                        }
                    });
                }
                if self.says_bucket_key {
                    xml.shown("BucketKeyEnabled", self.bucket_key);
                }
                if self.says_blocked {
                    xml.element("BlockedEncryptionTypes", |xml| {
                        xml.text("EncryptionType", if self.blocks_customers { "SSE-C" } else { "NONE" });
                    });
                }
            });
        })
    }
}

fn read_method(default: &Element) -> S3Result<Managed> {
    let [algorithm, key_id] = default.fields(["SSEAlgorithm", "KMSMasterKeyID"])?;
    let kms = match default.required(algorithm, "SSEAlgorithm")?.word()? {
        AES256 => false,
        KMS => true,
        "aws:kms:dsse" | "aws:fsx" => {
            return Err(s3_error!(NotImplemented, "Encryption with aws:kms:dsse or aws:fsx is not implemented."));
        }
        _ => return Err(XmlError::Value("SSEAlgorithm".into()).into()),
    };
    let key_id = key_id.map(Element::word).transpose()?.map(ToOwned::to_owned);
    if let Some(key_id) = &key_id {
        if !kms {
            let message = "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms";
            return Err(crate::error::invalid_argument("KMSMasterKeyID", key_id, message));
        }
        check_key_id(key_id)?;
    }
    Ok(Managed { kms, key_id, context: None, bucket_key: None })
}

/// Whether keys of customers are blocked.
fn read_blocked(blocked: &Element) -> S3Result<bool> {
    let ([], types) = blocked.fields_and_some([], "EncryptionType", 2)?;
    let mut blocks = false;
    for kind in types {
        match kind.word()? {
            "SSE-C" => blocks = true,
            "NONE" => {}
            _ => return Err(XmlError::Value("EncryptionType".into()).into()),
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(rule: &str) -> S3Result<BucketEncryption> {
        let document = format!("<{ROOT}>{rule}</{ROOT}>");
        BucketEncryption::read(&parse(document.as_bytes()).unwrap())
    }

    #[test]
    fn rules_are_read_strictly_and_come_back() {
        let apply = |inner: &str| {
            format!("<Rule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault></Rule>")
        };
        let aes = "<SSEAlgorithm>AES256</SSEAlgorithm>";
        let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>";
        for rule in [
            apply(aes),
            apply(kms),
            apply(kms).replace("</Rule>", "<BucketKeyEnabled>true</BucketKeyEnabled></Rule>"),
            "<Rule><BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes></Rule>".into(),
            apply(aes).replace("</Rule>", "<BucketKeyEnabled>false</BucketKeyEnabled><BlockedEncryptionTypes><EncryptionType>NONE</EncryptionType></BlockedEncryptionTypes></Rule>"),
        ] {
            let made = read(&rule).unwrap();
            assert_eq!(read_stored(&made.write()).unwrap(), made, "{rule}");
            assert!(String::from_utf8_lossy(&made.write()).contains(&rule), "{rule}");
        }
        for (rule, code) in [
            (String::new(), "MalformedXML"),
            ("<Rule/>".into(), "MalformedXML"),
            (format!("{0}{0}", apply(aes)), "MalformedXML"),
            (apply("<SSEAlgorithm>aes</SSEAlgorithm>"), "MalformedXML"),
            (apply(""), "MalformedXML"),
            (apply(&format!("{aes}<KMSMasterKeyID>k</KMSMasterKeyID>")), "InvalidArgument"),
            (apply("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>"), "NotImplemented"),
            (apply(aes).replace("</Rule>", "<BucketKeyEnabled>x</BucketKeyEnabled></Rule>"), "MalformedXML"),
        ] {
            assert_eq!(read(&rule).unwrap_err().code().as_str(), code, "{rule}");
        }
    }
}
