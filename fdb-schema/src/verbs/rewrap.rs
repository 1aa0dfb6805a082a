//! Keys of versions and uploads, wrapped by other keys than before: their bytes stay what they are.

use crate::{
    ids::{UploadId, VersionId},
    keyspace,
    record::{Encryption, Upload},
    verbs::{
        Meta, Verb,
        tx::{Outcome, Tx, transact},
        version_rows,
    },
};

/// Whose key is wrapped otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewrapOf {
    Version(VersionId),
    Upload(UploadId),
}

/// The same key, wrapped otherwise than it was.
#[derive(Clone, Debug)]
pub struct Rewrap {
    pub bucket: String,
    pub key: String,
    pub of: RewrapOf,
    pub was: Encryption,
    pub now: Encryption,
}

impl Meta {
    /// False if there is no such version or upload any more, or it is encrypted otherwise: then nothing is changed.
    pub fn rewrap(&self, request: Rewrap) -> Verb<'_, bool> {
        Box::pin(async move { transact!(self, "rewrap", |tx| rewrap(tx, &request)) })
    }
}

/// A repetition finds the row as it made it, so that no attempt need be remembered.
async fn rewrap(tx: &mut Tx, request: &Rewrap) -> Outcome<bool> {
    let Rewrap { bucket, key, of, was, now } = request;
    let fits = |kept: &Option<Encryption>| kept.as_ref().is_some_and(|kept| kept == was || kept == now);
    match of {
        RewrapOf::Version(id) => {
            let found = version_rows::named(tx, bucket, key, *id).await?;
            let Some((row, mut stored)) = found.filter(|(_, stored)| fits(&stored.version.encryption)) else {
                return Ok(false);
            };
            stored.version.encryption = Some(now.clone());
            tx.set(keyspace::version(bucket, key, row), &stored);
        }
        RewrapOf::Upload(id) => {
            let row_key = keyspace::upload(bucket, key, *id);
            let found = tx.get::<Upload>(&row_key).await?.filter(|upload| fits(&upload.encryption));
            let Some(upload) = found else { return Ok(false) };
            tx.set(row_key, &Upload { encryption: Some(now.clone()), ..upload });
        }
    }
    Ok(true)
}
