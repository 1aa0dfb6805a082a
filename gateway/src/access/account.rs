//! The one account that there is.

/// The owner of everything, by the id and the name that documents show.
pub(crate) const ROOT_USER: &str = "root";

/// As policies name it.
pub(crate) const ACCOUNT: &str = "000000000000";
pub(super) const ROOT_ARN: &str = "arn:aws:iam::000000000000:root";

pub(super) fn user_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

/// A bucket, an object in it, or neither.
pub(super) fn resource_arn(bucket: Option<&str>, key: Option<&str>) -> String {
    match (bucket, key) {
        (None, _) => "arn:aws:s3:::*".to_owned(),
        (Some(bucket), None) => format!("arn:aws:s3:::{bucket}"),
        (Some(bucket), Some(key)) => format!("arn:aws:s3:::{bucket}/{key}"),
    }
}
