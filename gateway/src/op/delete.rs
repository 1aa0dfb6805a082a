//! DeleteObject and DeleteObjects.

use cairn_schema::{
    ids::AttemptId,
    record::Origin,
    verbs::{self, Deleted, EtagMatch, Precondition},
};
use s3s::{
    Body, S3Error, S3Request, S3Response, S3Result,
    dto::{DeleteObjectInput, DeleteObjectOutput},
    s3_error,
};

use super::{
    Api,
    conditions::delete_precondition,
    documents::DocumentRequest,
    names::{check_key, selector},
};
use crate::{
    access::Asking,
    answer::documented,
    error::{ErrorDocument, from_meta},
    honour,
    shown::unquoted,
    xml::{Element, Writer, XmlError},
};

const BATCH_MAX: usize = 1000;

impl Api {
    pub(super) async fn do_delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let bypass_governance = honour::bypasses_governance(&request.headers);
        let origin = Self::origin(&request);
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
                precondition: delete_precondition(&request.headers)?,
                bypass_governance,
                origin,
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

    pub(super) async fn do_delete_objects(&self, request: DocumentRequest) -> S3Result<S3Response<Body>> {
        request.check_digests(true)?;
        let batch = Batch::read(request.root("Delete")?)?;
        let bypass = honour::bypasses_governance(request.headers());
        let origin = Self::origin(&request.request);
        self.meta().bucket(&request.bucket).await.map_err(from_meta)?;
        let mut refused = Vec::new();
        let mut named = Vec::with_capacity(batch.objects.len());
        let mut deletes = Vec::with_capacity(batch.objects.len());
        for object in &batch.objects {
            let asking = Asking {
                key: Some(&object.key),
                version: object.version_id.clone().filter(|version| !version.is_empty()),
                ..request.asking("DeleteObject")?
            };
            let judged = self.access.may_delete(&asking).await;
            match judged.and_then(|()| object.delete(&request.bucket, bypass, &origin)) {
                Ok(delete) => {
                    deletes.push(delete);
                    named.push(object);
                }
                Err(error) => refused.push((object, error)),
            }
        }
        let outcomes = self.meta().delete_objects(deletes).await;
        let document = Writer::document("DeleteResult", |xml| {
            for (object, error) in &refused {
                object.write_error(xml, error);
            }
            for (object, outcome) in named.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) if batch.quiet => {}
                    Ok(deleted) => object.write_deleted(xml, &deleted),
                    Err(error) => object.write_error(xml, &from_meta(error)),
                }
            }
        });
        Ok(documented(document))
    }
}

/// The document of DeleteObjects.
struct Batch {
    objects: Vec<NamedObject>,
    /// What was deleted is not told.
    quiet: bool,
}

struct NamedObject {
    key: String,
    version_id: Option<String>,
    etag: Option<String>,
    /// It is to be deleted only if it has this size or time.
    conditional: bool,
}

impl Batch {
    fn read(root: &Element) -> Result<Self, XmlError> {
        let ([quiet], objects) = root.fields_and_some(["Quiet"], "Object", BATCH_MAX)?;
        let quiet = quiet.map(Element::flag).transpose()?.unwrap_or(false);
        Ok(Self { objects: objects.into_iter().map(NamedObject::read).collect::<Result<_, _>>()?, quiet })
    }
}

impl NamedObject {
    fn read(object: &Element) -> Result<Self, XmlError> {
        let [key, version_id, etag, modified, size] =
            object.fields(["Key", "VersionId", "ETag", "LastModifiedTime", "Size"])?;
        let word = |field: Option<&Element>| field.map(|field| field.word().map(ToOwned::to_owned)).transpose();
        Ok(Self {
            key: object.required(key, "Key")?.value()?.to_owned(),
            version_id: word(version_id)?,
            etag: word(etag)?,
            conditional: modified.is_some() || size.is_some(),
        })
    }

    fn delete(&self, bucket: &str, bypass_governance: bool, origin: &Origin) -> S3Result<verbs::DeleteObject> {
        check_key(&self.key)?;
        if self.conditional {
            return Err(s3_error!(NotImplemented, "Deletes on condition of size or time are not implemented."));
        }
        let if_match = self.etag.as_deref().map(|etag| match etag {
            "*" => EtagMatch::Any,
            etag => EtagMatch::OneOf(vec![unquoted(etag).to_owned()]),
        });
        Ok(verbs::DeleteObject {
            attempt: AttemptId::random(),
            bucket: bucket.to_owned(),
            key: self.key.clone(),
            selector: selector(self.version_id.as_deref())?,
            precondition: Precondition { if_match, if_none_match: None },
            bypass_governance,
            origin: origin.clone(),
        })
    }

    fn write_deleted(&self, xml: &mut Writer, deleted: &Deleted) {
        xml.element("Deleted", |xml| {
            xml.text("Key", &self.key);
            xml.optional("VersionId", self.version_id.as_deref());
            if deleted.delete_marker {
                xml.text("DeleteMarker", "true");
                xml.optional("DeleteMarkerVersionId", deleted.version);
            }
        });
    }

    fn write_error(&self, xml: &mut Writer, error: &S3Error) {
        let ErrorDocument { code, message, .. } = ErrorDocument::of(error);
        xml.element("Error", |xml| {
            xml.text("Key", &self.key);
            xml.optional("VersionId", self.version_id.as_deref());
            xml.text("Code", &code);
            xml.text("Message", &message);
        });
    }
}
