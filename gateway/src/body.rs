//! Bodies: from clients at a least pace, to clients with an exact length.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use cairn_actors::{StoreError, store::BodyOut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{
    context::{RequestContext, Unread},
    fault::BodyFault,
    pace::{LeastPace, Pace},
};

/// A request's body as it comes off the wire.
pub(crate) struct ClientBody {
    /// None once it ended or failed.
    inner: Option<Incoming>,
    context: RequestContext,
    pace: Pace,
    /// Armed only while a read waits, so that a slow store is not taken for a slow client.
    timer: Pin<Box<Sleep>>,
    polled: bool,
    /// The client sends nothing before it is told to.
    waits_for_continue: bool,
}

impl ClientBody {
    pub(crate) fn new(inner: Incoming, context: RequestContext, least: LeastPace, waits_for_continue: bool) -> Self {
        Self {
            inner: Some(inner),
            context,
            pace: Pace::new(least),
            timer: Box::pin(tokio::time::sleep(least.window)),
            polled: false,
            waits_for_continue,
        }
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.inner = None;
        self.context.leave(Unread::GivenUp);
        self.context.record_fault(fault.clone());
        Poll::Ready(Some(Err(fault)))
    }

    /// Ready when the client that is waited for takes too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.pace.wait(Instant::now());
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.pace.judge(Instant::now()).is_err() {
                return Poll::Ready(());
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.polled = true;
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if self.pace.moved(frame.data_ref().map_or(0, Bytes::len), Instant::now()).is_err() {
                    return self.fail(BodyFault::TooSlow);
                }
                if let Some(data) = frame.data_ref() {
                    self.context.count_received(data.len() as u64);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(BodyFault::Connection(error.to_string())),
            Poll::Ready(None) => {
                self.inner = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.poll_too_slow(cx));
                self.fail(BodyFault::TooSlow)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|inner| !inner.is_end_stream()) else { return };
        // Reading an unread body would ask a client that waits for "100 Continue" to send it.
        let asks_for_it = self.waits_for_continue && !self.polled;
        self.context.leave(if asks_for_it { Unread::GivenUp } else { Unread::Rest(inner) });
    }
}

/// Why an object's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectBodyError {
    #[error("read object: {0}")]
    Store(#[from] StoreError),
    #[error("the object's body ended {0} bytes early")]
    Short(u64),
    #[error("the object's body has more bytes than were announced")]
    Long,
}

/// An object's bytes on their way to the client. It ends cleanly only after exactly the announced length (CON-2): every
/// other end is an error, which makes hyper abort the connection.
pub(crate) struct ObjectBody {
    inner: BodyOut,
    remaining: u64,
    failed: bool,
}

impl ObjectBody {
    pub(crate) fn new(inner: BodyOut, length: u64) -> Self {
        Self { inner, remaining: length, failed: false }
    }
}

impl Body for ObjectBody {
    type Data = Bytes;
    type Error = ObjectBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ObjectBodyError>>> {
        if self.failed || self.remaining == 0 {
            return Poll::Ready(None);
        }
        loop {
            let outcome = match ready!(self.inner.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => match self.remaining.checked_sub(bytes.len() as u64) {
                    Some(remaining) => {
                        self.remaining = remaining;
                        Ok(Frame::data(bytes))
                    }
                    None => Err(ObjectBodyError::Long),
                },
                Some(Err(error)) => Err(ObjectBodyError::Store(error)),
                None => Err(ObjectBodyError::Short(self.remaining)),
            };
            if let Err(error) = &outcome {
                self.failed = true;
                tracing::error!(%error, remaining = self.remaining, "abort the connection: object body broke off");
            }
            return Poll::Ready(Some(outcome));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::stream;
    use http_body_util::BodyExt;

    use super::*;

    fn body_of(items: Vec<Result<Bytes, StoreError>>, length: u64) -> ObjectBody {
        ObjectBody::new(Box::pin(stream::iter(items)), length)
    }

    #[tokio::test]
    async fn con_2_a_body_of_the_announced_length_ends_cleanly() {
        let body = body_of(vec![Ok("ab".into()), Ok(Bytes::new()), Ok("cde".into())], 5);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcde");
    }

    #[tokio::test]
    async fn con_2_a_short_body_is_an_error() {
        let error = body_of(vec![Ok("ab".into())], 5).collect().await.unwrap_err();
        assert!(matches!(error, ObjectBodyError::Short(3)), "{error}");
    }

    #[tokio::test]
    async fn con_2_a_long_body_is_an_error() {
        let error = body_of(vec![Ok("abcdef".into())], 5).collect().await.unwrap_err();
        assert!(matches!(error, ObjectBodyError::Long), "{error}");
    }

    #[tokio::test]
    async fn con_2_a_failing_body_is_an_error_and_stays_ended() {
        let mut body = body_of(vec![Ok("ab".into()), Err(StoreError::ShuttingDown), Ok("cde".into())], 5);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
}
