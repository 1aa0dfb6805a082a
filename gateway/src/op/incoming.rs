//! A client's body on its way into the store, and the verdict at its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use cairn_actors::{
    error::BoxError,
    store::{BodyIn, Verify},
};
use futures::Stream;
use http::HeaderMap;
use s3s::{S3Result, TrailingHeaders, dto::StreamingBlob, s3_error, stream::ByteStream};

use super::OBJECT_MAX_BYTES;
use crate::{checksum::BodyChecks, error::too_large};

/// A body, its exact length, and what decides on it.
pub(crate) struct Incoming {
    pub(crate) body: BodyIn,
    pub(crate) length: u64,
    pub(crate) verify: Verify,
}

/// Notes that the end was read: signatures of the last chunk, and trailers, are only known there.
struct ToTheEnd {
    inner: StreamingBlob,
    ended: Arc<AtomicBool>,
}

impl Stream for ToTheEnd {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.inner).poll_next(cx));
        if item.is_none() {
            self.ended.store(true, Ordering::Release);
        }
        Poll::Ready(item)
    }
}

/// `declared` is the Content-Length, used where the body does not know its own.
pub(crate) fn incoming(
    body: Option<StreamingBlob>,
    declared: Option<i64>,
    checks: BodyChecks,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Incoming> {
    let inner = body.unwrap_or_else(|| StreamingBlob::from_bytes(Bytes::new()));
    let length = exact_length(&inner, declared)?;
    let ended = Arc::new(AtomicBool::new(false));
    let body = Box::pin(ToTheEnd { inner, ended: ended.clone() });
    let verify: Verify = Box::new(move |digests| {
        if !ended.load(Ordering::Acquire) {
            return Err(s3_error!(InternalError, "The body was not read to its end.").into());
        }
        let trailers: Option<HeaderMap> = trailers.as_ref().and_then(TrailingHeaders::take);
        Ok(Some(checks.verify(digests, trailers.as_ref())?))
    });
    Ok(Incoming { body, length, verify })
}

fn exact_length(body: &StreamingBlob, declared: Option<i64>) -> S3Result<u64> {
    let known = body.remaining_length().exact().map(|length| length as u64);
    let declared = declared.and_then(|length| u64::try_from(length).ok());
    let length = known.or(declared).ok_or_else(|| s3_error!(MissingContentLength))?;
    if length > OBJECT_MAX_BYTES {
        return Err(too_large(length, OBJECT_MAX_BYTES));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_actors::checksum::Digests;
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_body_not_read_to_its_end_is_never_committed() {
        let checks = || BodyChecks::declared(&HeaderMap::new(), None, None, None).unwrap();
        let digests = Digests { md5: Some([0; 16]), crc64nvme: Some([0; 8]), ..Digests::default() };
        let blob = || Some(StreamingBlob::from_bytes("abc".into()));
        let mut body = incoming(blob(), None, checks(), None).unwrap();
        assert_eq!(body.length, 3);
        body.body.next().await.unwrap().unwrap();
        assert!((body.verify)(&digests).is_err());
        let mut body = incoming(blob(), None, checks(), None).unwrap();
        while body.body.next().await.is_some() {}
        assert!((body.verify)(&digests).is_ok());
    }

    #[test]
    fn lengths_are_known_and_bounded() {
        let unknown = || StreamingBlob::wrap(futures::stream::empty::<Result<Bytes, std::io::Error>>());
        assert_eq!(exact_length(&unknown(), None).unwrap_err().code().as_str(), "MissingContentLength");
        assert_eq!(exact_length(&unknown(), Some(7)).unwrap(), 7);
        let over = exact_length(&unknown(), Some(i64::try_from(OBJECT_MAX_BYTES).unwrap() + 1)).unwrap_err();
        assert_eq!(over.code().as_str(), "EntityTooLarge");
    }
}
