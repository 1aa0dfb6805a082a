//! UploadPartCopy: a part of bytes that are stored already refers to them, and none is written again.
//!
//! The part needs digests of its own. They are the source's when it is just one part of the source; otherwise the bytes
//! are read, and verified as every read is.
//!
//! Bytes are written again only where sharing would cost more than it spares: for a few bytes of a large blob, which
//! would keep all of it when the source is deleted, and for a part of so many slices that its row would be too long;
//! and where the source or the upload is encrypted, because keys are of one version's blobs.

use std::sync::Arc;

use cairn_fragment::checksum::{DigestPlan, Digests};
use cairn_schema::{ids::AttemptId, record::*, verbs::*};
use futures::TryStreamExt;

use super::{
    commit::commit,
    hashing::Hashing,
    put_part,
    request::{CopyUploadPart, KnownDigests, PutUploadPart},
};
use crate::{
    data_path::{DataPath, Requester},
    error::{BoxError, StoreError},
    get,
};

/// A part with fewer bytes shares whole blobs only.
const SHARED_BYTES: u64 = 1 << 20;

pub(crate) async fn copy_part(data: &Arc<DataPath>, request: CopyUploadPart) -> Result<UploadedPart, StoreError> {
    let slices = request.located.slices();
    let sealed = request.opener.is_some() || request.sealer.is_some();
    if sealed || !is_shared(&slices) {
        return write_again(data, request).await;
    }
    let CopyUploadPart { requester, source, located, bucket, key, upload, number, known, digests, verify, .. } =
        request;
    let range = located.range.clone();
    let known = match known {
        Some(known) => known,
        None => {
            let reading = read_digests(data, &requester, located, digests);
            let in_time = tokio::time::timeout(data.timings.write_limit(), reading).await;
            let read = in_time.map_err(|_| StoreError::Timeout("a part took longer than its limit to read"))??;
            let md5 = read.md5.expect("MD5 is always planned");
            KnownDigests { md5, checksum: verify(&read).map_err(StoreError::Rejected)? }
        }
    };
    let request = CopyPart {
        attempt: AttemptId::random(),
        source,
        range,
        slices: slices.iter().map(Slice::name).collect(),
        upload,
        bucket,
        key,
        number,
        md5: known.md5,
        checksum: known.checksum,
    };
    let meta = data.meta.clone();
    commit(data, None, move |_| {
        let (meta, request) = (meta.clone(), request.clone());
        async move { meta.copy_part(request).await }
    })
    .await
}

fn is_shared(slices: &[Slice]) -> bool {
    let bytes: u64 = slices.iter().map(|slice| slice.length).sum();
    let whole_blobs = slices.iter().all(|slice| slice.length == slice.blob.length);
    slices.len() <= MAX_SLICES && (whole_blobs || bytes >= SHARED_BYTES)
}

async fn read_digests(
    data: &Arc<DataPath>,
    requester: &Requester,
    located: Located,
    plan: DigestPlan,
) -> Result<Digests, StoreError> {
    let mut body = get::open(data.clone(), requester, located, None).await?.body;
    let hashing = Hashing::start(DigestPlan { md5: true, ..plan });
    while let Some(bytes) = body.try_next().await? {
        hashing.push(&bytes).await;
    }
    Ok(hashing.finish().await?.digests)
}

async fn write_again(data: &Arc<DataPath>, request: CopyUploadPart) -> Result<UploadedPart, StoreError> {
    let CopyUploadPart { requester, located, bucket, key, upload, number, digests, verify, opener, sealer, .. } =
        request;
    let length = Some(located.range.end - located.range.start);
    let body = get::open(data.clone(), &requester, located, opener).await?.body;
    let body = Box::pin(body.map_err(|error| Box::new(error) as BoxError));
    put_part(data, PutUploadPart { requester, bucket, key, upload, number, length, body, digests, verify, sealer })
        .await
}
