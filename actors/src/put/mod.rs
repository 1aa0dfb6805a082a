//! Objects in: a body becomes stripes, stripes become durable fragments, and one transaction makes them an object.
//!
//! [`body`] reads what the client sends, [`writer`] turns it into stripes in flight, [`race`] makes one stripe safe,
//! [`fan_out`] sends its fragments, and [`commit`] makes the blob visible. [`copy_part`] makes a part of bytes that are
//! stored already.

mod body;
mod commit;
mod copy_part;
mod fan_out;
mod hashing;
mod pending;
mod race;
mod request;
mod sealing;
mod stripe;
mod writer;

use std::sync::Arc;

use cairn_fragment::{
    checksum::{DigestPlan, Digests},
    sealing::Sealer,
};
use cairn_schema::{MetaError, ids::*, record::*, verbs::*};

pub use request::{BodyIn, CopyUploadPart, KnownDigests, PutObject, PutUploadPart, Sealing, Verify};

pub(crate) use copy_part::copy_part;
pub(crate) use fan_out::{EncodedStripe, Sending};

use crate::{
    data_path::{DataPath, Requester},
    error::StoreError,
};
use body::BodyReader;
use commit::commit;
use pending::PendingBlob;

/// A body that is durable and that the verifier has let pass, and that nobody can see yet.
struct Received {
    digests: Digests,
    md5: [u8; 16],
    checksum: Option<StoredChecksum>,
    /// None for a body of no bytes.
    blob: Option<PendingBlob>,
}

pub(crate) async fn put(data: &Arc<DataPath>, request: PutObject) -> Result<Committed, StoreError> {
    let PutObject { requester, bucket, key, length, body, digests, verify, owner, attributes, .. } = request;
    let PutObject { precondition, cause, sealing, .. } = request;
    let counted = Counted::begin(data);
    let (sealer, encryption) = sealing.map(|Sealing { sealer, kept }| (sealer, kept)).unzip();
    let received = receive(data, &requester, Coming { length, body, digests, verify, sealer }).await?;
    let version = NewVersion {
        etag: Etag { md5: received.md5, parts: None },
        size: received.digests.length,
        owner,
        attributes,
        checksum: received.checksum,
        encryption,
    };
    let request = CommitObject { attempt: AttemptId::random(), bucket, key, version, blob: None, precondition, cause };
    let meta = data.meta.clone();
    let committed = commit(data, received.blob, move |blob| {
        let (meta, request) = (meta.clone(), CommitObject { blob, ..request.clone() });
        async move { meta.commit_object(request).await }
    });
    let committed = committed.await?;
    counted.done();
    Ok(committed)
}

pub(crate) async fn put_part(data: &Arc<DataPath>, request: PutUploadPart) -> Result<UploadedPart, StoreError> {
    let PutUploadPart { requester, bucket, key, upload, number, length, body, digests, verify, sealer } = request;
    // Learned before gigabytes are taken in rather than after.
    let begun = data.meta.upload(&bucket, &key, upload).await?;
    check_sealer(begun.encryption.as_ref(), sealer.as_ref())?;
    let counted = Counted::begin(data);
    let received = receive(data, &requester, Coming { length, body, digests, verify, sealer }).await?;
    let request = PutPart {
        attempt: AttemptId::random(),
        upload,
        bucket,
        key,
        number,
        md5: received.md5,
        checksum: received.checksum,
        length: received.digests.length,
        blob: None,
    };
    let meta = data.meta.clone();
    let part = commit(data, received.blob, move |blob| {
        let (meta, request) = (meta.clone(), PutPart { blob, ..request.clone() });
        async move { meta.put_part(request).await }
    });
    let part = part.await?;
    counted.done();
    Ok(part)
}

/// A body that comes, and what is to be done with it.
struct Coming {
    length: Option<u64>,
    body: BodyIn,
    digests: DigestPlan,
    verify: Verify,
    sealer: Option<Arc<dyn Sealer>>,
}

/// What would be stored as it is and read as if it were sealed, or the other way round, is not begun.
fn check_sealer(kept: Option<&Encryption>, sealer: Option<&Arc<dyn Sealer>>) -> Result<(), StoreError> {
    if kept.is_some() == sealer.is_some() {
        return Ok(());
    }
    let why = "an upload is sealed and its part is not, or the other way round".to_owned();
    Err(MetaError::Invalid { what: "part", why }.into())
}

/// Takes a whole body in and lets `verify` judge it. Whatever goes wrong, and if the future is dropped, what was
/// written is deleted.
async fn receive(data: &Arc<DataPath>, requester: &Requester, coming: Coming) -> Result<Received, StoreError> {
    let Coming { length, body, digests, verify, sealer } = coming;
    let policy = data.policy_to_write_by()?;
    let plan = DigestPlan { md5: true, ..digests };
    let reader = BodyReader::new(body, length);
    let verify = |digests: &Digests| verify(digests).map_err(StoreError::Rejected);
    let how = writer::How { policy, plan, sealer: sealer.clone() };
    let writing = writer::write_body(data, &how, requester, reader, verify);
    let limit = data.timings.write_limit();
    let in_time = tokio::time::timeout(limit, writing).await;
    let (blob, (hashed, checksum)) =
        in_time.map_err(|_| StoreError::Timeout("a body took longer than its limit"))??;
    let md5 = hashed.md5.expect("MD5 is always planned");
    let md5 = sealer.map_or(md5, |sealer| sealer.tag_of(md5));
    Ok(Received { digests: hashed, md5, checksum, blob })
}

/// Counts a write and how it ended; one whose future is dropped counts as failed.
struct Counted {
    data: Arc<DataPath>,
    start: std::time::Instant,
    ok: bool,
}

impl Counted {
    fn begin(data: &Arc<DataPath>) -> Self {
        data.metrics.in_flight.inc();
        Self { data: data.clone(), start: std::time::Instant::now(), ok: false }
    }

    fn done(mut self) {
        self.ok = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let metrics = &self.data.metrics;
        metrics.in_flight.dec();
        metrics.puts.with_label_values(&[if self.ok { "ok" } else { "failed" }]).inc();
        if self.ok {
            metrics.put_seconds.observe(self.start.elapsed().as_secs_f64());
        }
    }
}
