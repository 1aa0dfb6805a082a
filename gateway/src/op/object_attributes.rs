//! GetObjectAttributes: what is known of an object, its parts included.

use cairn_schema::{record::UploadedPart, verbs::ObjectParts};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    encryption_headers::CustomerKey,
    names::{check_key, etag, page_limit, selector, shown_version, signed, timestamp},
};
use crate::{
    checksum::{put_checksum, put_typed_checksum},
    error::from_meta,
};

impl Api {
    pub(super) async fn do_get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let customer = CustomerKey::of(&request.headers, self.is_secure(&request))?;
        let input = request.input;
        let asked = asked(&input.object_attributes)?;
        let wants = |name: &str| asked.contains(&name);
        check_key(&input.key)?;
        let limit = page_limit(input.max_parts, "max-parts")?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(marker).map_err(|_| {
            s3_error!(InvalidArgument, "Argument part-number-marker must be an integer between 0 and 65535")
        })?;
        let limit_read = if wants(ObjectAttributes::OBJECT_PARTS) { limit } else { 0 };
        let selector = selector(input.version_id.as_deref())?;
        let found = self.meta().object_parts(&input.bucket, &input.key, selector, after, limit_read).await;
        let ObjectParts { version, parts, more } = found.map_err(from_meta)?;
        self.check_told(version.encryption.as_ref(), customer.as_ref())?;
        let checksum = version.checksum.as_ref().filter(|_| wants(ObjectAttributes::CHECKSUM)).map(|checksum| {
            let mut out = Checksum::default();
            put_typed_checksum!(out, checksum, version.part_count);
            out
        });
        let object_parts = version.part_count.filter(|_| wants(ObjectAttributes::OBJECT_PARTS)).map(|count| {
            let last = parts.last().map_or(marker, |part| i32::from(part.number));
            // As in S3, parts are listed of objects that have a checksum.
            let shown = version.checksum.is_some();
            GetObjectAttributesParts {
                total_parts_count: Some(i32::from(count)),
                is_truncated: shown.then_some(more),
                max_parts: shown.then(|| i32::try_from(limit).unwrap_or(i32::MAX)),
                part_number_marker: shown.then_some(marker),
                next_part_number_marker: shown.then_some(last),
                parts: shown.then(|| parts.into_iter().map(part).collect()),
            }
        });
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum,
            e_tag: wants(ObjectAttributes::ETAG).then(|| etag(&version.etag)),
            last_modified: Some(timestamp(version.modified_ms)),
            object_parts,
            object_size: wants(ObjectAttributes::OBJECT_SIZE).then(|| signed(version.size)),
            storage_class: wants(ObjectAttributes::STORAGE_CLASS)
                .then(|| StorageClass::from(version.attributes.storage_class.clone())),
            version_id: shown_version(&version),
            ..Default::default()
        }))
    }
}

/// What the header names, which `s3s` does not split.
fn asked(list: &[ObjectAttributes]) -> S3Result<Vec<&str>> {
    const KNOWN: [&str; 5] = [
        ObjectAttributes::ETAG,
        ObjectAttributes::CHECKSUM,
        ObjectAttributes::OBJECT_PARTS,
        ObjectAttributes::STORAGE_CLASS,
        ObjectAttributes::OBJECT_SIZE,
    ];
    let named = list.iter().flat_map(|list| list.as_str().split(',')).map(str::trim).filter(|name| !name.is_empty());
    let asked: Vec<&str> = named.collect();
    if asked.is_empty() || asked.iter().any(|name| !KNOWN.contains(name)) {
        return Err(s3_error!(InvalidArgument, "Invalid attribute name specified."));
    }
    Ok(asked)
}

fn part(part: UploadedPart) -> ObjectPart {
    let mut out =
        ObjectPart { part_number: Some(i32::from(part.number)), size: Some(signed(part.length)), ..Default::default() };
    if let Some(checksum) = &part.checksum {
        put_checksum!(out, checksum, None);
    }
    out
}
