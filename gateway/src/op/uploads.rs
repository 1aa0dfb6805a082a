//! ListParts and ListMultipartUploads.

use cairn_schema::{
    record,
    verbs::{ListUploadsQuery, PartsPage},
};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    encoding::KeyEncoding,
    names::{check_key, owner, page_limit, part_etag, signed, timestamp, upload_id},
};
use crate::{
    checksum::{self, put_checksum},
    error::from_meta,
};

impl Api {
    pub(super) async fn do_list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        check_key(&input.key)?;
        let id = upload_id(&input.upload_id)?;
        let limit = page_limit(input.max_parts, "max-parts")?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(marker).map_err(|_| {
            s3_error!(InvalidArgument, "Argument part-number-marker must be an integer between 0 and 65535")
        })?;
        let PartsPage { upload, parts, next } = if limit == 0 {
            let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
            PartsPage { upload, parts: Vec::new(), next: None }
        } else {
            self.meta().list_parts(&input.bucket, &input.key, id, after, limit).await.map_err(from_meta)?
        };
        let last = parts.last().map(|part| i32::from(part.number));
        let (checksum_algorithm, checksum_type) = checksum_of(&upload);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm,
            checksum_type,
            initiator: Some(initiator(&upload.owner)),
            owner: Some(owner(&upload.owner)),
            is_truncated: Some(next.is_some()),
            max_parts: Some(input.max_parts.unwrap_or(1000).min(1000)),
            part_number_marker: Some(marker),
            next_part_number_marker: next.map(i32::from).or(last),
            parts: Some(parts.into_iter().map(part).collect()),
            storage_class: Some(StorageClass::from(upload.attributes.storage_class)),
            ..Default::default()
        }))
    }

    pub(super) async fn do_list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let upload_marker = match input.upload_id_marker.as_deref().filter(|marker| !marker.is_empty()) {
            // As in S3, it means nothing without a key.
            Some(marker) if key_marker.is_some() => {
                Some(marker.parse().map_err(|_| s3_error!(InvalidArgument, "Invalid uploadId marker"))?)
            }
            _ => None,
        };
        let query = ListUploadsQuery {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
            key_marker,
            upload_marker,
            limit: page_limit(input.max_uploads, "max-uploads")?,
        };
        let page = if query.limit == 0 {
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            Default::default()
        } else {
            self.meta().list_uploads(&query).await.map_err(from_meta)?
        };
        let (next_key, next_upload) = page.next.map_or((None, None), |(key, upload)| (Some(key), upload));
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            common_prefixes: Some(
                page.common_prefixes
                    .into_iter()
                    .map(|prefix| CommonPrefix { prefix: Some(encoding.encode(prefix)) })
                    .collect(),
            ),
            delimiter: query.delimiter.map(|delimiter| encoding.encode(delimiter)),
            encoding_type: encoding.answer(),
            is_truncated: Some(next_key.is_some()),
            key_marker: Some(encoding.encode(input.key_marker.unwrap_or_default())),
            max_uploads: Some(input.max_uploads.unwrap_or(1000).min(1000)),
            next_key_marker: next_key.map(|key| encoding.encode(key)),
            next_upload_id_marker: next_upload.map(|upload| upload.to_string()),
            prefix: Some(encoding.encode(query.prefix)),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            uploads: Some(page.uploads.into_iter().map(|upload| listed(upload, encoding)).collect()),
            ..Default::default()
        }))
    }
}

fn part(part: record::UploadedPart) -> Part {
    let mut out = Part {
        e_tag: Some(part_etag(part.md5)),
        last_modified: Some(timestamp(part.modified_ms)),
        part_number: Some(i32::from(part.number)),
        size: Some(signed(part.length)),
        ..Default::default()
    };
    if let Some(checksum) = &part.checksum {
        put_checksum!(out, checksum, None);
    }
    out
}

fn listed(upload: record::Upload, encoding: KeyEncoding) -> MultipartUpload {
    let (checksum_algorithm, checksum_type) = checksum_of(&upload);
    MultipartUpload {
        checksum_algorithm,
        checksum_type,
        initiated: Some(timestamp(upload.created_ms)),
        initiator: Some(initiator(&upload.owner)),
        owner: Some(owner(&upload.owner)),
        key: Some(encoding.encode(upload.key)),
        storage_class: Some(StorageClass::from(upload.attributes.storage_class)),
        upload_id: Some(upload.id.to_string()),
    }
}

fn checksum_of(upload: &record::Upload) -> (Option<ChecksumAlgorithm>, Option<ChecksumType>) {
    upload.checksum.map_or((None, None), |(algorithm, kind)| {
        (
            Some(ChecksumAlgorithm::from_static(checksum::name(algorithm))),
            Some(ChecksumType::from_static(checksum::kind_name(kind))),
        )
    })
}

fn initiator(user: &str) -> Initiator {
    Initiator { display_name: Some(user.to_owned()), id: Some(user.to_owned()) }
}
