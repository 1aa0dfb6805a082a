//! The rule of a bucket that says what new objects are encrypted by: read strictly, and written as S3 writes it.

use bytes::Bytes;
use s3s::{S3Result, s3_error};

use super::encryption_headers::{AES256, KMS, Managed, check_key_id};
use crate::{
    error::invalid_argument,
    xml::{Element, Writer, XmlError, parse},
};

pub(super) const ROOT: &str = "ServerSideEncryptionConfiguration";

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

/// It was read strictly before it was stored.
pub(super) fn read_stored(stored: &[u8]) -> S3Result<BucketEncryption> {
    let read = || -> S3Result<BucketEncryption> { BucketEncryption::read(parse(stored)?.root(ROOT)?) };
    read().map_err(|error| {
        tracing::error!(?error, "a stored encryption configuration cannot be read");
        s3_error!(InternalError, "The encryption configuration of the bucket cannot be read.")
    })
}

impl BucketEncryption {
    pub(super) fn read(root: &Element) -> S3Result<Self> {
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

    pub(super) fn write(&self) -> Bytes {
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
            return Err(invalid_argument("KMSMasterKeyID", key_id, message));
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
