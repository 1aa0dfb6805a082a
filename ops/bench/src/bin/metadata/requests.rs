//! Requests as a gateway makes them, for objects of one small blob.

use cairn_schema::{Meta, MetaError, ids::*, record::*, verbs::*};

pub(crate) async fn prepare(meta: &Meta) -> Result<Group, MetaError> {
    let mut members = Vec::new();
    for index in 0..3u8 {
        let disk = Disk {
            id: DiskId::random(),
            node: format!("n{index}").parse().map_err(|error: IdError| MetaError::Storage(error.to_string()))?,
            rack: format!("r{index}"),
            zone: "z".into(),
            capacity_bytes: 1 << 40,
            state: DiskState::Up,
            since_ms: 0,
        };
        members.push(meta.register_disk(disk).await?.id);
    }
    meta.create_group(Scheme::Replicated { copies: 3 }, members).await
}

pub(crate) fn bucket(name: &str) -> Bucket {
    Bucket { owner: "owner".into(), ..Bucket::new(name, 1) }
}

fn blob(group: &Group, length: u64) -> NewBlob {
    NewBlob {
        blob: Blob {
            id: BlobId::random(),
            scheme: group.scheme,
            length,
            stripe_bytes: 4 << 20,
            runs: vec![StripeRun { group: group.id, stripes: 1 }],
            checksum: rand::random(),
        },
        epochs: vec![(group.id, group.epoch)],
        missing: vec![],
        policy: None,
    }
}

fn attributes() -> Attributes {
    Attributes {
        content_type: Some("application/octet-stream".into()),
        storage_class: "STANDARD".into(),
        ..Attributes::default()
    }
}

pub(crate) fn put(group: &Group, bucket: &str, key: String) -> CommitObject {
    let size = 4096;
    CommitObject {
        attempt: AttemptId::random(),
        bucket: bucket.into(),
        key,
        version: NewVersion {
            etag: Etag { md5: rand::random(), parts: None },
            size,
            owner: "owner".into(),
            attributes: attributes(),
            checksum: None,
            encryption: None,
        },
        blob: Some(blob(group, size)),
        precondition: Precondition::default(),
        cause: Cause::default(),
    }
}

pub(crate) fn delete(bucket: &str, key: String) -> DeleteObject {
    DeleteObject {
        attempt: AttemptId::random(),
        bucket: bucket.into(),
        key,
        selector: VersionSelector::Current,
        precondition: Precondition::default(),
        bypass_governance: false,
        origin: Origin::default(),
    }
}

pub(crate) fn upload(bucket: &str, key: String) -> Upload {
    Upload {
        id: UploadId::random(),
        bucket: bucket.into(),
        key,
        created_ms: 1,
        owner: "owner".into(),
        attributes: attributes(),
        checksum: None,
        encryption: None,
    }
}

pub(crate) fn put_part(group: &Group, upload: &Upload, number: u16) -> PutPart {
    let length = 5 << 20;
    PutPart {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        number,
        md5: rand::random(),
        checksum: None,
        length,
        blob: Some(blob(group, length)),
    }
}

pub(crate) fn complete(upload: &Upload, parts: &[UploadedPart]) -> CompleteUpload {
    CompleteUpload {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        parts: parts.iter().map(|part| CompletedPart { number: part.number, md5: part.md5, checksum: None }).collect(),
        checksum: None,
        min_part_bytes: 5 << 20,
        precondition: Precondition::default(),
        origin: Origin::default(),
    }
}
