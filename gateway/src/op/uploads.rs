//! ListParts and ListMultipartUploads.

use bytes::Bytes;
use cairn_schema::{
    record::{Upload, UploadedPart},
    verbs::{ListUploadsPage, ListUploadsQuery, PartsPage},
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput},
};

use super::{
    Api,
    encoding::KeyEncoding,
    list::{write_checksum_names, write_common_prefix},
    names::{check_key, page_limit, upload_id},
};
use crate::{
    answer::documented,
    checksum::write_checksum,
    error::{from_meta, invalid_argument},
    shown::{iso_time, quoted, write_owner},
    xml::Writer,
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
            let message = "Argument part-number-marker must be an integer between 0 and 65535";
            invalid_argument("part-number-marker", &marker.to_string(), message)
        })?;
        let page = if limit == 0 {
            let upload = self.meta().upload(&input.bucket, &input.key, id).await.map_err(from_meta)?;
            PartsPage { upload, parts: Vec::new(), next: None }
        } else {
            self.meta().list_parts(&input.bucket, &input.key, id, after, limit).await.map_err(from_meta)?
        };
        Ok(documented(write_parts(&page, after, limit)))
    }

    pub(super) async fn do_list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let key_marker = input.key_marker.filter(|marker| !marker.is_empty());
        let upload_marker = match input.upload_id_marker.as_deref().filter(|marker| !marker.is_empty()) {
            // As in S3, it means nothing without a key.
            Some(marker) if key_marker.is_some() => Some(
                marker.parse().map_err(|_| invalid_argument("upload-id-marker", marker, "Invalid uploadId marker"))?,
            ),
            _ => None,
        };
        let query = ListUploadsQuery {
            bucket: input.bucket,
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter.filter(|delimiter| !delimiter.is_empty()),
            key_marker,
            upload_marker,
            limit: page_limit(input.max_uploads, "max-uploads")?,
        };
        let page = if query.limit == 0 {
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            ListUploadsPage::default()
        } else {
            self.meta().list_uploads(&query).await.map_err(from_meta)?
        };
        Ok(documented(write_uploads(&query, &page, encoding)))
    }
}

fn write_parts(page: &PartsPage, after: u16, limit: usize) -> Bytes {
    let upload = &page.upload;
    let last = page.next.or(page.parts.last().map(|part| part.number));
    Writer::document("ListPartsResult", |xml| {
        xml.text("Bucket", &upload.bucket);
        xml.text("Key", &upload.key);
        xml.shown("UploadId", upload.id);
        write_owner(xml, "Initiator", &upload.owner);
        write_owner(xml, "Owner", &upload.owner);
        xml.text("StorageClass", &upload.attributes.storage_class);
        xml.shown("PartNumberMarker", after);
        xml.optional("NextPartNumberMarker", last);
        xml.shown("MaxParts", limit);
        xml.shown("IsTruncated", page.next.is_some());
        write_checksum_names(xml, upload.checksum);
        for part in &page.parts {
            write_part(xml, part);
        }
    })
}

fn write_part(xml: &mut Writer, part: &UploadedPart) {
    xml.element("Part", |xml| {
        xml.shown("PartNumber", part.number);
        xml.text("LastModified", &iso_time(part.modified_ms));
        xml.text("ETag", &quoted(&hex::encode(part.md5)));
        xml.shown("Size", part.length);
        if let Some(checksum) = &part.checksum {
            write_checksum(xml, checksum, None);
        }
    });
}

fn write_uploads(query: &ListUploadsQuery, page: &ListUploadsPage, encoding: KeyEncoding) -> Bytes {
    let upload_marker = query.upload_marker.map(|marker| marker.to_string()).unwrap_or_default();
    Writer::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", &query.bucket);
        xml.text("KeyMarker", &encoding.encode(query.key_marker.as_deref().unwrap_or_default()));
        xml.text("UploadIdMarker", &upload_marker);
        if let Some((key, upload)) = &page.next {
            xml.text("NextKeyMarker", &encoding.encode(key));
            xml.optional("NextUploadIdMarker", *upload);
        }
        xml.text("Prefix", &encoding.encode(&query.prefix));
        xml.optional("Delimiter", query.delimiter.as_deref().map(|delimiter| encoding.encode(delimiter)));
        xml.shown("MaxUploads", query.limit);
        xml.optional("EncodingType", encoding.answer());
        xml.shown("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            write_upload(xml, upload, encoding);
        }
        for prefix in &page.common_prefixes {
            write_common_prefix(xml, prefix, encoding);
        }
    })
}

fn write_upload(xml: &mut Writer, upload: &Upload, encoding: KeyEncoding) {
    xml.element("Upload", |xml| {
        xml.text("Key", &encoding.encode(&upload.key));
        xml.shown("UploadId", upload.id);
        write_owner(xml, "Initiator", &upload.owner);
        write_owner(xml, "Owner", &upload.owner);
        xml.text("StorageClass", &upload.attributes.storage_class);
        xml.text("Initiated", &iso_time(upload.created_ms));
        write_checksum_names(xml, upload.checksum);
    });
}
