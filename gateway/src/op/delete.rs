//! DeleteObject and DeleteObjects.

use cairn_schema::{
    ids::AttemptId,
    verbs::{self, Deleted, Precondition},
};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    conditions::{etag_match, write_precondition},
    inspect::check_document,
    names::{check_key, selector},
};
use crate::error::from_meta;

const BATCH_MAX: usize = 1000;

impl Api {
    pub(super) async fn do_delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        check_key(&input.key)?;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(s3_error!(NotImplemented, "Deletes on condition of size or time are not implemented."));
        }
        let deleted = self
            .meta()
            .delete_object(verbs::DeleteObject {
                attempt: AttemptId::random(),
                bucket: input.bucket,
                key: input.key,
                selector: selector(input.version_id.as_deref())?,
                precondition: write_precondition(input.if_match, None),
            })
            .await
            .map_err(from_meta)?;
        let version_id = match deleted.version {
            // What was named is named again, even if there was nothing.
            None => input.version_id,
            Some(version) => {
                let told = !version.is_null() || deleted.delete_marker || input.version_id.is_some();
                told.then(|| version.to_string())
            }
        };
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: deleted.delete_marker.then_some(true),
            request_charged: None,
            version_id,
        }))
    }

    pub(super) async fn do_delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        check_document(&request, true)?;
        let input = request.input;
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > BATCH_MAX {
            return Err(s3_error!(MalformedXML, "A batch names 1 to {BATCH_MAX} objects."));
        }
        self.meta().bucket(&input.bucket).await.map_err(from_meta)?;
        let quiet = input.delete.quiet == Some(true);
        let mut output =
            DeleteObjectsOutput { deleted: Some(Vec::new()), errors: Some(Vec::new()), ..Default::default() };
        let mut named = Vec::with_capacity(objects.len());
        let mut batch = Vec::with_capacity(objects.len());
        for object in objects {
            match delete_request(&input.bucket, &object) {
                Ok(request) => {
                    batch.push(request);
                    named.push(object);
                }
                Err(error) => output.errors.get_or_insert_default().push(failed(object, &error)),
            }
        }
        let outcomes = self.meta().delete_objects(batch).await;
        for (object, outcome) in named.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) if quiet => {}
                Ok(deleted) => output.deleted.get_or_insert_default().push(done(object, &deleted)),
                Err(error) => output.errors.get_or_insert_default().push(failed(object, &from_meta(error))),
            }
        }
        Ok(S3Response::new(output))
    }
}

fn delete_request(bucket: &str, object: &ObjectIdentifier) -> S3Result<verbs::DeleteObject> {
    check_key(&object.key)?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(s3_error!(NotImplemented, "Deletes on condition of size or time are not implemented."));
    }
    let if_match = object.e_tag.clone().map(|etag| etag_match(ETagCondition::ETag(etag)));
    Ok(verbs::DeleteObject {
        attempt: AttemptId::random(),
        bucket: bucket.to_owned(),
        key: object.key.clone(),
        selector: selector(object.version_id.as_deref())?,
        precondition: Precondition { if_match, if_none_match: None },
    })
}

fn done(object: ObjectIdentifier, deleted: &Deleted) -> DeletedObject {
    let marker = deleted.version.filter(|_| deleted.delete_marker);
    DeletedObject {
        delete_marker: deleted.delete_marker.then_some(true),
        delete_marker_version_id: marker.map(|version| version.to_string()),
        key: Some(object.key),
        version_id: object.version_id,
    }
}

fn failed(object: ObjectIdentifier, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(object.key),
        message: error.message().map(ToOwned::to_owned),
        version_id: object.version_id,
    }
}
