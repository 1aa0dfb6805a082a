//! CopyObject: a new version that shares the source's blobs. Bytes are copied only where the copy is encrypted
//! otherwise than its source.

use cairn_actors::{
    StoreError,
    error::BoxError,
    store::{PutObject, Requester},
};
use cairn_schema::{
    MetaError,
    ids::{AttemptId, VersionId},
    record::{Attributes, Cause, ChecksumAlgorithm, EventKind, Lock, Origin, Version},
    verbs::{self, Committed, EtagMatch, Precondition, RangeRequest, VersionSelector},
};
use futures::TryStreamExt;
use http::HeaderMap;
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, MetadataDirective, StorageClass,
        TaggingDirective,
    },
    s3_error,
};

use super::{
    Api, OBJECT_MAX_BYTES,
    attributes::{said, storage_class},
    conditions::{ReadConditions, write_precondition},
    encryption::Choice,
    encryption_headers::{Asked, CustomerKey, says_anything, told},
    lock_headers::asked_lock,
    names::{check_key, etag, selector, shown_version, timestamp},
};
use crate::{
    checksum::{self, BodyChecks, put_typed_checksum},
    error::{WithField, from_meta, from_store, invalid_argument},
};

/// How often the source may change between being looked at and being copied.
pub(super) const ATTEMPTS: usize = 4;

/// What `x-amz-copy-source` names.
pub(super) struct Source {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) selector: VersionSelector,
}

impl Source {
    pub(super) fn parse(source: &CopySource) -> S3Result<Self> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "Access points are not implemented."));
        };
        check_key(key)?;
        Ok(Self { bucket: bucket.to_string(), key: key.to_string(), selector: selector(version_id.as_deref())? })
    }
}

/// What the directives say about the copy's attributes.
struct Directives {
    /// Instead of the source's content headers and user metadata.
    replace_metadata: bool,
    /// Instead of the source's tags.
    replace_tags: bool,
    given: Attributes,
    /// Only if the request names one; a copy does not inherit its source's.
    storage_class: String,
}

/// What is copied, and where to.
struct Copying {
    requester: Requester,
    origin: Origin,
    source: Source,
    conditions: ReadConditions,
    /// What the client says opens the source.
    source_key: Option<CustomerKey>,
    bucket: String,
    key: String,
    directives: Directives,
    precondition: Precondition,
}

impl Api {
    pub(super) async fn do_copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let (requester, origin) = (Self::requester(&request), Self::origin(&request));
        let secure = self.is_secure(&request);
        let asked = Asked::of(&request.headers, secure)?;
        let source_key = CustomerKey::of_source(&request.headers, secure)?;
        let mut input = request.input;
        check_key(&input.key)?;
        let source = Source::parse(&input.copy_source)?;
        let conditions = ReadConditions::of_source(&request.headers);
        let wanted = input.checksum_algorithm.as_ref().map(|wanted| wanted_checksum(wanted.as_str())).transpose()?;
        let lock = asked_lock(&request.headers, self.meta().now_ms())?;
        let directives = directives(&mut input, lock)?;
        if !says_anything(&request.headers) {
            refuse_pointless(&source, &input, &directives)?;
        }
        let precondition = write_precondition(&request.headers)?;
        let (bucket, key) = (input.bucket, input.key);
        let copying =
            Copying { requester, origin, source, conditions, source_key, bucket, key, directives, precondition };
        for _ in 0..ATTEMPTS {
            let found = self.source_version(&copying.source, &copying.conditions).await?;
            refuse_another_checksum(wanted, &found)?;
            // Also where bytes are shared: whoever has not the key gets no copy that needs none.
            self.check_told(found.encryption.as_ref(), copying.source_key.as_ref())?;
            let choice = self.choice_of_copy(&copying.bucket, asked.clone(), found.encryption.as_ref()).await?;
            let copied = if self.may_share(found.encryption.as_ref(), &choice) {
                self.copy_shared(&copying, &found).await?
            } else {
                self.copy_bytes(&copying, &found, &choice).await?
            };
            if let Some(committed) = copied {
                return Ok(answer(committed, &found, asked.customer()));
            }
        }
        Err(s3_error!(SlowDown, "The source keeps changing; please try again."))
    }

    /// None if the source is another by now.
    async fn copy_shared(&self, copying: &Copying, found: &Version) -> S3Result<Option<Committed>> {
        let source = &copying.source;
        let copy = verbs::CopyObject {
            attempt: AttemptId::random(),
            source: (source.bucket.clone(), source.key.clone(), source.selector),
            // What was looked at is what must be copied, or its attributes and bytes could be of two versions (CON-2).
            source_precondition: exactly(found),
            bucket: copying.bucket.clone(),
            key: copying.key.clone(),
            attributes: Some(copying.directives.apply(&found.attributes)),
            encryption: found.encryption.clone(),
            owner: Self::owner().to_owned(),
            precondition: copying.precondition.clone(),
            origin: copying.origin.clone(),
        };
        match self.meta().copy_object(copy).await {
            Ok(committed) => Ok(Some(committed)),
            // Its key was wrapped again, or it is another version.
            Err(MetaError::Stale(_)) => Ok(None),
            Err(MetaError::PreconditionFailed(which)) => {
                // The conditions of source and target fail alike; only a source that has changed is worth another look.
                let now = self.source_version(source, &copying.conditions).await?;
                if now.etag == found.etag && now.id == found.id {
                    return Err(from_meta(MetaError::PreconditionFailed(which)));
                }
                Ok(None)
            }
            Err(error) => Err(from_meta(error)),
        }
    }

    /// Reads the source and writes it again. None if it is another by now.
    async fn copy_bytes(&self, copying: &Copying, found: &Version, choice: &Choice) -> S3Result<Option<Committed>> {
        let source = &copying.source;
        if found.size > OBJECT_MAX_BYTES {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {OBJECT_MAX_BYTES}"
            ));
        }
        // Before gigabytes are read: nobody should wait for them to hear that the bucket does not exist.
        let target = self.meta().bucket(&copying.bucket).await.map_err(from_meta)?;
        self.expect_room(&target, &copying.key, found.size).await?;
        let located = self.store.locate(&source.bucket, &source.key, source.selector, RangeRequest::All).await;
        let located = located.map_err(from_store)?;
        let now = &located.version;
        if (now.id, now.etag, now.modified_ms) != (found.id, found.etag, found.modified_ms) {
            return Ok(None);
        }
        let opener = self.opener(now.encryption.as_ref(), copying.source_key.as_ref()).await?;
        let sealing = self.sealing(&copying.bucket, choice).await?;
        let algorithm = found.checksum.as_ref().map(|checksum| checksum.algorithm);
        let checks = BodyChecks::declared(&HeaderMap::new(), None, None, algorithm)?;
        let digests = checks.plan();
        let opened = self.store.open_sealed(&copying.requester, located, opener).await.map_err(from_store)?;
        let body = opened.body.map_err(|error: StoreError| Box::new(error) as BoxError);
        let put = PutObject {
            requester: copying.requester.clone(),
            bucket: copying.bucket.clone(),
            key: copying.key.clone(),
            length: Some(found.size),
            body: Box::pin(body),
            digests,
            verify: Box::new(move |digests| Ok(Some(checks.verify(digests, None)?))),
            owner: Self::owner().to_owned(),
            attributes: copying.directives.apply(&found.attributes),
            precondition: copying.precondition.clone(),
            cause: Cause::new(EventKind::CreatedByCopy, copying.origin.clone()),
            sealing,
        };
        self.store.put(put).await.map(Some).map_err(from_store)
    }

    pub(super) async fn source_version(&self, source: &Source, conditions: &ReadConditions) -> S3Result<Version> {
        let located = self.meta().locate(&source.bucket, &source.key, source.selector, RangeRequest::Nothing).await;
        let version = located.map_err(from_meta)?.version;
        conditions.check_source(&version)?;
        Ok(version)
    }
}

fn wanted_checksum(name: &str) -> S3Result<ChecksumAlgorithm> {
    checksum::parse_name(name).ok_or_else(|| checksum::unsupported_algorithm(name))
}

/// A copy has its source's checksum, for its bytes are not read: another one cannot be had.
fn refuse_another_checksum(wanted: Option<ChecksumAlgorithm>, source: &Version) -> S3Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    if source.checksum.as_ref().is_some_and(|checksum| checksum.algorithm == wanted) {
        return Ok(());
    }
    let message = "Copies with another checksum algorithm than that of their source are not implemented.";
    Err(s3_error!(NotImplemented, "{message}").with("Header", "x-amz-checksum-algorithm"))
}

fn exactly(version: &Version) -> Precondition {
    Precondition { if_match: Some(EtagMatch::OneOf(vec![version.etag.to_string()])), if_none_match: None }
}

impl Directives {
    fn apply(&self, source: &Attributes) -> Attributes {
        let described = if self.replace_metadata { &self.given } else { source };
        let tagged = if self.replace_tags { &self.given } else { source };
        Attributes {
            tags: tagged.tags.clone(),
            storage_class: self.storage_class.clone(),
            // Neither a lock nor a redirect is ever inherited.
            lock: self.given.lock,
            website_redirect: self.given.website_redirect.clone(),
            ..described.clone()
        }
    }
}

fn directives(input: &mut CopyObjectInput, lock: Lock) -> S3Result<Directives> {
    let replaces = |directive: Option<&str>, header: &str| match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(invalid_argument(header, other, format!("The value of the header {header} is invalid."))),
    };
    let replace_metadata =
        replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str), "x-amz-metadata-directive")?;
    let replace_tags =
        replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str), "x-amz-tagging-directive")?;
    let storage_class = storage_class(input.storage_class.clone())?;
    let given = said!(input, lock).into_attributes()?;
    Ok(Directives { replace_metadata, replace_tags, given, storage_class })
}

/// Copying an object to itself is a way to change its attributes, and an error when it changes none.
fn refuse_pointless(source: &Source, input: &CopyObjectInput, directives: &Directives) -> S3Result<()> {
    let itself = source.bucket == input.bucket
        && source.key == input.key
        && matches!(source.selector, VersionSelector::Current | VersionSelector::Id(VersionId::NULL));
    let changes = directives.replace_metadata
        || directives.replace_tags
        || directives.storage_class != StorageClass::STANDARD
        || directives.given.website_redirect.is_some();
    if itself && !changes {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    Ok(())
}

fn answer(committed: Committed, source: &Version, customer: Option<&CustomerKey>) -> S3Response<CopyObjectOutput> {
    let version = committed.version;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&version.etag)),
        last_modified: Some(timestamp(version.modified_ms)),
        ..Default::default()
    };
    if let Some(checksum) = &version.checksum {
        put_typed_checksum!(result, checksum, version.part_count);
    }
    let headers = told(version.encryption.as_ref(), customer);
    let output = CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: shown_version(source),
        version_id: committed.versioned.then(|| version.id.to_string()),
        ..Default::default()
    };
    S3Response::with_headers(output, headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn input(change: impl FnOnce(&mut CopyObjectInput)) -> CopyObjectInput {
        let source = CopySource::Bucket { bucket: "b".into(), key: "k".into(), version_id: None };
        let mut input =
            CopyObjectInput::builder().bucket("b".into()).key("k".into()).copy_source(source).build().unwrap();
        change(&mut input);
        input
    }

    fn pointless(mut input: CopyObjectInput) -> bool {
        let source = Source::parse(&input.copy_source).unwrap();
        let directives = directives(&mut input, Lock::default()).unwrap();
        refuse_pointless(&source, &input, &directives).is_err()
    }

    #[test]
    fn a_copy_to_itself_must_change_something() {
        assert!(pointless(input(|_| ())));
        assert!(!pointless(input(|input| input.key = "other".into())));
        assert!(!pointless(input(|input| input.metadata_directive = Some(MetadataDirective::from_static("REPLACE")))));
        assert!(!pointless(input(|input| input.tagging_directive = Some(TaggingDirective::from_static("REPLACE")))));
    }

    #[test]
    fn directives_choose_between_the_sources_attributes_and_the_given_ones() {
        let source = Attributes {
            content_type: Some("text/plain".into()),
            tags: vec![("a".into(), "1".into())],
            storage_class: "REDUCED_REDUNDANCY".into(),
            website_redirect: Some("/x".into()),
            ..Attributes::default()
        };
        let mut replacing = input(|input| {
            input.metadata_directive = Some(MetadataDirective::from_static("REPLACE"));
            input.content_type = Some("image/png".into());
            input.tagging = Some("ignored=1".into());
        });
        let made = directives(&mut replacing, Lock::default()).unwrap().apply(&source);
        assert_eq!(made.content_type.as_deref(), Some("image/png"));
        assert_eq!(made.tags, source.tags);
        assert_eq!(made.storage_class, "STANDARD");
        assert_eq!(made.website_redirect, None);
        let kept = directives(&mut input(|_| ()), Lock::default()).unwrap().apply(&source);
        assert_eq!(kept.content_type, source.content_type);
    }
}
