//! The one account that there is.

/// The owner of everything, by the id and the name that documents show.
pub(crate) const ROOT_USER: &str = "root";

/// As policies name it.
pub(crate) const ACCOUNT: &str = "000000000000";
pub(super) const ROOT_ARN: &str = "arn:aws:iam::000000000000:root";

pub(super) fn user_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

/// All who have a role, as bucket policies name them.
pub(super) fn role_arn(role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role}")
}

/// One who took a session of a user's or a role's name.
pub(super) fn session_arn(name: &str, session: &str) -> String {
    format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}")
}

/// Who somebody is.
pub(crate) struct Identity {
    /// None for the root.
    pub(crate) user: Option<String>,
    pub(crate) id: String,
    pub(crate) arn: String,
}

impl Identity {
    /// Of one who has a role, in a session.
    pub(super) fn of_role(role: &str, id: &str, session: &str) -> Self {
        // No user has a name with a slash.
        Self { user: Some(format!("role/{role}")), id: format!("{id}:{session}"), arn: session_arn(role, session) }
    }
}

/// A bucket, an object in it, or neither.
pub(super) fn resource_arn(bucket: Option<&str>, key: Option<&str>) -> String {
    match (bucket, key) {
        (None, _) => "arn:aws:s3:::*".to_owned(),
        (Some(bucket), None) => format!("arn:aws:s3:::{bucket}"),
        (Some(bucket), Some(key)) => format!("arn:aws:s3:::{bucket}/{key}"),
    }
}
