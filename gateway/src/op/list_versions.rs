//! ListObjectVersions.

use cairn_schema::{
    record::{Version, VersionKind},
    verbs::{ListVersionsEntry, ListVersionsQuery},
};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    encoding::KeyEncoding,
    list::checksum_names,
    names::{etag, owner, page_limit, signed, timestamp, version_id},
};
use crate::error::from_meta;

impl Api {
    pub(super) async fn do_list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let query = query(&input)?;
        let mut output = ListObjectVersionsOutput {
            common_prefixes: Some(Vec::new()),
            delete_markers: Some(Vec::new()),
            versions: Some(Vec::new()),
            delimiter: query.delimiter.clone().map(|delimiter| encoding.encode(delimiter)),
            encoding_type: encoding.answer(),
            is_truncated: Some(false),
            key_marker: Some(encoding.encode(input.key_marker.unwrap_or_default())),
            max_keys: Some(input.max_keys.unwrap_or(1000).min(1000)),
            name: Some(input.bucket),
            prefix: Some(encoding.encode(query.prefix.clone())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            ..Default::default()
        };
        if query.limit == 0 {
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            return Ok(S3Response::new(output));
        }
        let page = self.meta().list_versions(&query).await.map_err(from_meta)?;
        for entry in page.entries {
            add(&mut output, entry, encoding);
        }
        if let Some((key, version)) = page.next {
            output.is_truncated = Some(true);
            output.next_key_marker = Some(encoding.encode(key));
            output.next_version_id_marker = version.map(|version| version.to_string());
        }
        Ok(S3Response::new(output))
    }
}

fn query(input: &ListObjectVersionsInput) -> S3Result<ListVersionsQuery> {
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let version_marker =
        input.version_id_marker.as_deref().filter(|marker| !marker.is_empty()).map(version_id).transpose()?;
    if version_marker.is_some() && key_marker.is_none() {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
    }
    Ok(ListVersionsQuery {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
        key_marker,
        version_marker,
        limit: page_limit(input.max_keys, "max-keys")?,
    })
}

fn add(output: &mut ListObjectVersionsOutput, entry: ListVersionsEntry, encoding: KeyEncoding) {
    match entry {
        ListVersionsEntry::CommonPrefix(prefix) => {
            output.common_prefixes.get_or_insert_default().push(CommonPrefix { prefix: Some(encoding.encode(prefix)) })
        }
        ListVersionsEntry::Version { key, version, latest } => match version.kind {
            VersionKind::DeleteMarker => output.delete_markers.get_or_insert_default().push(DeleteMarkerEntry {
                is_latest: Some(latest),
                key: Some(encoding.encode(key)),
                last_modified: Some(timestamp(version.modified_ms)),
                owner: Some(owner(&version.owner)),
                version_id: Some(version.id.to_string()),
            }),
            VersionKind::Object => {
                output.versions.get_or_insert_default().push(object_version(encoding.encode(key), version, latest));
            }
        },
    }
}

fn object_version(key: String, version: Version, latest: bool) -> ObjectVersion {
    let checksum = version.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.kind));
    let (checksum_algorithm, checksum_type) = checksum_names(checksum);
    ObjectVersion {
        checksum_algorithm,
        checksum_type,
        e_tag: Some(etag(&version.etag)),
        is_latest: Some(latest),
        key: Some(key),
        last_modified: Some(timestamp(version.modified_ms)),
        owner: Some(owner(&version.owner)),
        restore_status: None,
        size: Some(signed(version.size)),
        storage_class: Some(ObjectVersionStorageClass::from(version.attributes.storage_class)),
        version_id: Some(version.id.to_string()),
    }
}
