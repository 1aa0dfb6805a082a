//! What the client sends, held to its declared length.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::{error::StoreError, store::BodyIn};

pub(super) struct BodyReader {
    body: BodyIn,
    declared: Option<u64>,
    /// Bytes that came so far.
    taken: u64,
    /// Came but not yet handed on.
    pending: Bytes,
    ended: bool,
}

impl BodyReader {
    pub fn new(body: BodyIn, declared: Option<u64>) -> Self {
        Self { body, declared, taken: 0, pending: Bytes::new(), ended: false }
    }

    /// Bytes that are still to be handed on, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        if self.ended {
            return Some(self.pending.len() as u64);
        }
        self.declared.map(|declared| declared.saturating_sub(self.taken) + self.pending.len() as u64)
    }

    /// Between 1 and `most` bytes, or None at the end of the body: only then has everything come, trailers included.
    async fn next(&mut self, most: usize) -> Result<Option<Bytes>, StoreError> {
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
