//! Who has signed a form: its policy is what was signed, in version 4 or 2.

use hmac::{Hmac, KeyInit, Mac};
use s3s::{S3Error, S3Result, auth::S3Auth, s3_error};
use s3s_sigv4::{AmzDate, CredentialV4, derive_signing_key};
use sha1::Sha1;
use sha2::Sha256;

use super::fields::Fields;
use crate::{
    access::Credentials,
    error::{WithField, invalid_argument},
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The access key whose secret has signed the policy. A form without any signature is nobody's.
pub(super) async fn signer(fields: &Fields, credentials: &Credentials) -> S3Result<Option<String>> {
    let is_v2 = fields.get("awsaccesskeyid").is_some() || fields.get("signature").is_some();
    let is_v4 = fields.names().any(|name| name == "x-amz-signature" || name == "x-amz-credential");
    if !is_v2 && !is_v4 && fields.get("policy").is_none() {
        return Ok(None);
    }
    let policy = fields.required("policy")?;
    if is_v2 && !is_v4 {
        return version_2(fields, policy, credentials).await.map(Some);
    }
    version_4(fields, policy, credentials).await.map(Some)
}

async fn version_4(fields: &Fields, policy: &str, credentials: &Credentials) -> S3Result<String> {
    let algorithm = fields.required("x-amz-algorithm")?;
    if algorithm != ALGORITHM {
        let message = format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"");
        return Err(invalid_argument("x-amz-algorithm", algorithm, message));
    }
    let credential = fields.required("x-amz-credential")?;
    let scope = CredentialV4::parse(credential).map_err(|_| {
        let message = "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
        invalid_argument("x-amz-credential", credential, message)
    })?;
    let date = fields.required("x-amz-date")?;
    let amz_date = AmzDate::parse(date).map_err(|_| {
        let message = "X-Amz-Date must be formated via ISO8601 Long format";
        invalid_argument("x-amz-date", date, message)
    })?;
    let signature = fields.required("x-amz-signature")?;
    let wrong = || does_not_match(scope.access_key_id, policy, signature);
    if scope.date != amz_date.fmt_date().as_str() || scope.aws_service != "s3" {
        return Err(wrong());
    }
    let secret =
        credentials.get_secret_key(scope.access_key_id).await.map_err(|error| of(error, scope.access_key_id))?;
    let key = derive_signing_key(secret.expose(), &amz_date, scope.aws_region, scope.aws_service);
    let claimed = hex::decode(signature).map_err(|_| wrong())?;
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).map_err(|_| wrong())?;
    mac.chain_update(policy).verify_slice(&claimed).map_err(|_| wrong())?;
    Ok(scope.access_key_id.to_owned())
}

async fn version_2(fields: &Fields, policy: &str, credentials: &Credentials) -> S3Result<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let access_key = fields.required("awsaccesskeyid")?;
    let signature = fields.required("signature")?;
    let wrong = || does_not_match(access_key, policy, signature);
    let secret = credentials.get_secret_key(access_key).await.map_err(|error| of(error, access_key))?;
    let claimed = STANDARD.decode(signature).map_err(|_| wrong())?;
    let mac = <Hmac<Sha1> as KeyInit>::new_from_slice(secret.expose().as_bytes()).map_err(|_| wrong())?;
    mac.chain_update(policy).verify_slice(&claimed).map_err(|_| wrong())?;
    Ok(access_key.to_owned())
}

fn does_not_match(access_key: &str, policy: &str, signature: &str) -> S3Error {
    s3_error!(SignatureDoesNotMatch)
        .with("AWSAccessKeyId", access_key)
        .with("StringToSign", policy)
        .with("SignatureProvided", signature)
}

/// Whose key it was, if there is none such.
fn of(error: S3Error, access_key: &str) -> S3Error {
    if *error.code() == s3s::S3ErrorCode::InvalidAccessKeyId {
        return error.with("AWSAccessKeyId", access_key);
    }
    error
}
