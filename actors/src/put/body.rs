//! What the client sends, held to its declared length.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::request::BodyIn;
use crate::error::StoreError;

/// A body, read in pieces of the sizes that stripes want.
pub(super) struct BodyReader {
    body: BodyIn,
    declared: Option<u64>,
    /// Bytes that came so far.
    taken: u64,
    /// Came but not yet handed on: first what was handed on and put back.
    returned: Bytes,
    pending: Bytes,
    ended: bool,
}

impl BodyReader {
    pub fn new(body: BodyIn, declared: Option<u64>) -> Self {
        Self { body, declared, taken: 0, returned: Bytes::new(), pending: Bytes::new(), ended: false }
    }

    /// Bytes that are still to be handed on, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        let at_hand = (self.returned.len() + self.pending.len()) as u64;
        if self.ended {
            return Some(at_hand);
        }
        self.declared.map(|declared| declared.saturating_sub(self.taken) + at_hand)
    }

    /// Takes back what was handed on last: it comes again, before all else.
    pub fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.returned.is_empty(), "only what was handed on last can come before all else");
        self.returned = bytes;
    }

    /// Between 1 and `most` bytes, or None at the end of the body: only then has everything come, trailers included.
    async fn next(&mut self, most: usize) -> Result<Option<Bytes>, StoreError> {
        if !self.returned.is_empty() {
            let most = most.min(self.returned.len());
            return Ok(Some(self.returned.split_to(most)));
        }
        while self.pending.is_empty() {
            if self.ended {
                return Ok(None);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.take(bytes)?,
                Some(Err(error)) => return Err(StoreError::Body(error)),
                None => self.end()?,
            }
        }
        let most = most.min(self.pending.len());
        Ok(Some(self.pending.split_to(most)))
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.taken += bytes.len() as u64;
        match self.declared {
            Some(declared) if self.taken > declared => {
                Err(StoreError::Body(format!("it is longer than the {declared} bytes declared").into()))
            }
            _ => {
                self.pending = bytes;
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.ended = true;
        match self.declared {
            Some(declared) if self.taken < declared => {
                Err(StoreError::Body(format!("it ended after {} of {declared} bytes", self.taken).into()))
            }
            _ => Ok(()),
        }
    }

    /// Up to `most` bytes in one piece, fewer only at the body's end. A piece that came whole is not copied; others are copied once.
    pub async fn fill(&mut self, most: usize) -> Result<Bytes, StoreError> {
        let expected = self.remaining().map_or(most, |left| usize::try_from(left).unwrap_or(most).min(most));
        let Some(first) = self.next(most).await? else { return Ok(Bytes::new()) };
        if first.len() == most || self.remaining() == Some(0) {
            return Ok(first);
        }
        let mut stripe = BytesMut::with_capacity(expected.max(first.len()));
        stripe.extend_from_slice(&first);
        drop(first);
        while stripe.len() < most && self.remaining() != Some(0) {
            let Some(bytes) = self.next(most - stripe.len()).await? else { break };
            stripe.extend_from_slice(&bytes);
        }
        Ok(stripe.freeze())
    }

    /// Reads to the end; a body that goes on is an error only through its declared length.
    pub async fn finish(&mut self) -> Result<(), StoreError> {
        match self.next(1).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::Body("it goes on after its end".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reader(pieces: &[&'static str], declared: Option<u64>) -> BodyReader {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        BodyReader::new(Box::pin(futures::stream::iter(pieces)), declared)
    }

    #[tokio::test]
    async fn what_is_put_back_comes_again_before_the_rest() {
        for declared in [None, Some(10)] {
            let mut body = reader(&["abcdef", "ghij"], declared);
            let first = body.fill(4).await.unwrap();
            assert_eq!(first, "abcd");
            body.put_back(first);
            assert_eq!(body.remaining(), declared);
            // In one piece, though it lies in three.
            assert_eq!(body.fill(3).await.unwrap(), "abc");
            assert_eq!(body.fill(6).await.unwrap(), "defghi");
            assert_eq!(body.fill(6).await.unwrap(), "j");
            body.finish().await.unwrap();
            assert_eq!(body.remaining(), Some(0));
        }
    }
}
