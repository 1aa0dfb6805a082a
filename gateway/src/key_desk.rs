//! What operators ask about the keys of objects: how they are, and that what older versions of them wrapped be wrapped
//! by the newest.

use std::time::{Duration, Instant};

use cairn_schema::{
    Meta, MetaError,
    ids::{UploadId, VersionId},
    record::{Encryption, EncryptionKind},
    verbs::{ListUploadsQuery, ListVersionsEntry, ListVersionsQuery, Rewrap, RewrapOf},
};

use crate::encryption::{Keyring, KeyringStatus};

/// Versions and uploads that are looked at in one step, if that does not take longer than the next.
const PAGE: usize = 50;
const STEP_TIME: Duration = Duration::from_secs(2);

/// Answers operators about keys. Cheap to clone.
#[derive(Clone)]
pub struct KeyDesk {
    meta: Meta,
    keyring: Option<Keyring>,
}

/// How far the walk over all versions and uploads has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrapPlace {
    /// The bucket that is walked over.
    pub bucket: String,
    /// Whether it is at the bucket's uploads, which come before its versions: what is completed meanwhile is met there.
    pub uploads: bool,
    /// The last key, and the version or upload of it by its id, that were looked at.
    pub after: Option<(String, Option<[u8; 16]>)>,
}

/// What one step came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewrapStep {
    /// Versions and uploads that are encrypted, but for those with keys that clients keep.
    pub looked_at: u64,
    pub rewrapped: u64,
    /// Those whose keys do not open, with the first one's name and why.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// None when all is done.
    pub next: Option<RewrapPlace>,
}

/// Why a step was not made. It can be made again.
#[derive(Debug, thiserror::Error)]
pub enum KeyDeskError {
    #[error("no keys are configured on this node (s3.encryption)")]
    NoKeys,
    #[error("{0}")]
    Keys(String),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl KeyDesk {
    pub fn new(meta: Meta, keyring: Option<Keyring>) -> Self {
        Self { meta, keyring }
    }

    /// None if no keys are configured. Asks the key management.
    pub async fn status(&self) -> Option<KeyringStatus> {
        match &self.keyring {
            Some(keyring) => Some(keyring.status().await),
            None => None,
        }
    }

    /// Looks at the next few versions or uploads, of one bucket if it is named, and has the keys of those that an older
    /// version wrapped be wrapped by the newest. Whatever was done stays done: a walk that is begun again passes over
    /// it.
    ///
    /// # Errors
    /// Keys while the key management does not answer.
    pub async fn rewrap(&self, only: Option<&str>, place: Option<RewrapPlace>) -> Result<RewrapStep, KeyDeskError> {
        let keyring = self.keyring.as_ref().ok_or(KeyDeskError::NoKeys)?;
        let place = match (place, only) {
            (Some(place), _) => place,
            (None, Some(bucket)) => at_the_beginning(bucket.to_owned()),
            (None, None) => match self.bucket_after(None).await? {
                Some(place) => place,
                None => return Ok(RewrapStep::default()),
            },
        };
        let mut step = RewrapStep::default();
        let after = match self.page(keyring, &place, &mut step).await {
            Err(KeyDeskError::Meta(MetaError::NoSuchBucket(_))) if only.is_none() => None,
            page => page?,
        };
        step.next = match after {
            Some(_) => Some(RewrapPlace { after, ..place }),
            None if place.uploads => Some(RewrapPlace { uploads: false, after: None, ..place }),
            None if only.is_some() => None,
            None => self.bucket_after(Some(&place.bucket)).await?,
        };
        Ok(step)
    }

    async fn bucket_after(&self, bucket: Option<&str>) -> Result<Option<RewrapPlace>, KeyDeskError> {
        let mut found = self.meta.list_buckets("", bucket, 1).await?;
        Ok(found.pop().map(|bucket| at_the_beginning(bucket.name)))
    }

    /// Where the next page begins; None if there is none.
    async fn page(
        &self,
        keyring: &Keyring,
        place: &RewrapPlace,
        step: &mut RewrapStep,
    ) -> Result<Option<(String, Option<[u8; 16]>)>, KeyDeskError> {
        let begun = Instant::now();
        let (key_marker, id) = place.after.clone().map(|(key, id)| (Some(key), id)).unwrap_or_default();
        if place.uploads {
            let query = ListUploadsQuery {
                bucket: place.bucket.clone(),
                key_marker,
                upload_marker: id.map(UploadId),
                limit: PAGE,
                ..ListUploadsQuery::default()
            };
            let page = self.meta.list_uploads(&query).await?;
            for upload in page.uploads {
                if let Some(encryption) = upload.encryption {
                    let of = RewrapOf::Upload(upload.id);
                    let at = (upload.key.clone(), Some(upload.id.0));
                    self.rewrap_one(keyring, &place.bucket, upload.key, of, encryption, step).await?;
                    if begun.elapsed() >= STEP_TIME {
                        return Ok(Some(at));
                    }
                }
            }
            return Ok(page.next.map(|(key, id)| (key, id.map(|id| id.0))));
        }
        let query = ListVersionsQuery {
            bucket: place.bucket.clone(),
            key_marker,
            version_marker: id.map(VersionId),
            limit: PAGE,
            ..ListVersionsQuery::default()
        };
        let page = self.meta.list_versions(&query).await?;
        for entry in page.entries {
            if let ListVersionsEntry::Version { key, version, .. } = entry
                && let Some(encryption) = version.encryption
            {
                let of = RewrapOf::Version(version.id);
                let at = (key.clone(), Some(version.id.0));
                self.rewrap_one(keyring, &place.bucket, key, of, encryption, step).await?;
                if begun.elapsed() >= STEP_TIME {
                    return Ok(Some(at));
                }
            }
        }
        Ok(page.next.map(|(key, id)| (key, id.map(|id| id.0))))
    }

    async fn rewrap_one(
        &self,
        keyring: &Keyring,
        bucket: &str,
        key: String,
        of: RewrapOf,
        was: Encryption,
        step: &mut RewrapStep,
    ) -> Result<(), KeyDeskError> {
        if was.kind == EncryptionKind::Customer {
            return Ok(());
        }
        step.looked_at += 1;
        let now = match keyring.rewrap(&was, bucket).await {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(()),
            // Others would fail alike.
            Err(error) if error.is_passing() => return Err(KeyDeskError::Keys(error.to_string())),
            Err(error) => {
                tracing::error!(bucket, key, %error, "a key of an object cannot be wrapped again");
                step.failed += 1;
                step.first_failure.get_or_insert_with(|| format!("{bucket}/{key}: {error}"));
                return Ok(());
            }
        };
        let request = Rewrap { bucket: bucket.to_owned(), key, of, was, now };
        // False: it is gone, or somebody else did it.
        step.rewrapped += u64::from(self.meta.rewrap(request).await?);
        Ok(())
    }
}

fn at_the_beginning(bucket: String) -> RewrapPlace {
    RewrapPlace { bucket, uploads: true, after: None }
}
