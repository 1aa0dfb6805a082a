//! ListObjectVersions.

use bytes::Bytes;
use cairn_schema::{
    record::{Version, VersionKind},
    verbs::{ListVersionsEntry, ListVersionsPage, ListVersionsQuery},
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{ListObjectVersionsInput, ListObjectVersionsOutput},
};

use super::{
    Api,
    encoding::KeyEncoding,
    list::{write_checksum_names, write_common_prefix},
    names::{page_limit, version_id},
};
use crate::{
    answer::documented,
    error::{from_meta, invalid_argument},
    shown::{iso_time, quoted, write_owner},
    xml::Writer,
};

impl Api {
    pub(super) async fn do_list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let query = query(&input)?;
        let page = if query.limit == 0 {
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            ListVersionsPage::default()
        } else {
            self.meta().list_versions(&query).await.map_err(from_meta)?
        };
        Ok(documented(write_page(&input, &query, &page, encoding)))
    }
}

fn query(input: &ListObjectVersionsInput) -> S3Result<ListVersionsQuery> {
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let version_marker =
        input.version_id_marker.as_deref().filter(|marker| !marker.is_empty()).map(version_id).transpose()?;
    if version_marker.is_some() && key_marker.is_none() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(invalid_argument(
            "version-id-marker",
            input.version_id_marker.as_deref().unwrap_or_default(),
            message,
        ));
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

fn write_page(
    input: &ListObjectVersionsInput,
    query: &ListVersionsQuery,
    page: &ListVersionsPage,
    encoding: KeyEncoding,
) -> Bytes {
    Writer::document("ListVersionsResult", |xml| {
        xml.text("Name", &query.bucket);
        xml.text("Prefix", &encoding.encode(&query.prefix));
        xml.text("KeyMarker", &encoding.encode(query.key_marker.as_deref().unwrap_or_default()));
        xml.text("VersionIdMarker", input.version_id_marker.as_deref().unwrap_or_default());
        if let Some((key, version)) = &page.next {
            xml.text("NextKeyMarker", &encoding.encode(key));
            xml.optional("NextVersionIdMarker", *version);
        }
        xml.shown("MaxKeys", query.limit);
        xml.optional("Delimiter", query.delimiter.as_deref().map(|delimiter| encoding.encode(delimiter)));
        xml.optional("EncodingType", encoding.answer());
        xml.shown("IsTruncated", page.next.is_some());
        // Versions and markers as they follow each other: by key, the newest first.
        for entry in &page.entries {
            if let ListVersionsEntry::Version { key, version, latest } = entry {
                write_version(xml, &encoding.encode(key), version, *latest);
            }
        }
        for entry in &page.entries {
            if let ListVersionsEntry::CommonPrefix(prefix) = entry {
                write_common_prefix(xml, prefix, encoding);
            }
        }
    })
}

fn write_version(xml: &mut Writer, key: &str, version: &Version, latest: bool) {
    let is_object = version.kind == VersionKind::Object;
    xml.element(if is_object { "Version" } else { "DeleteMarker" }, |xml| {
        xml.text("Key", key);
        xml.shown("VersionId", version.id);
        xml.shown("IsLatest", latest);
        xml.text("LastModified", &iso_time(version.modified_ms));
        if is_object {
            xml.text("ETag", &quoted(&version.etag.to_string()));
            write_checksum_names(xml, version.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.kind)));
            xml.shown("Size", version.size);
            xml.text("StorageClass", &version.attributes.storage_class);
        }
        write_owner(xml, "Owner", &version.owner);
    });
}
