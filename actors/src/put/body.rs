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
    /// Came but not yet filled into what is made of them.
    pending: Bytes,
    /// What is being filled: one piece that came whole, or copies.
    whole: Bytes,
    copied: BytesMut,
    ended: bool,
}

impl BodyReader {
    pub(super) fn new(body: BodyIn, declared: Option<u64>) -> Self {
        let (pending, whole, copied) = (Bytes::new(), Bytes::new(), BytesMut::new());
        Self { body, declared, taken: 0, pending, whole, copied, ended: false }
    }

    /// Bytes that are still to be handed on, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        let at_hand = (self.filled() + self.pending.len()) as u64;
        if self.ended {
            return Some(at_hand);
        }
        self.declared.map(|declared| declared.saturating_sub(self.taken) + at_hand)
    }

    /// Bytes that have come for what is being filled.
    pub(super) fn filled(&self) -> usize {
        self.whole.len() + self.copied.len()
    }

    /// Nothing more is to be filled, as far as that is known.
    pub(super) fn is_all_filled(&self) -> bool {
        self.remaining() == Some(self.filled() as u64)
    }

    /// Bytes that have come besides.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Waits until there is more than what has been filled. False at the end of the body: only then has everything
    /// come, trailers included. May be dropped and called again.
    pub(super) async fn more(&mut self) -> Result<bool, StoreError> {
        while self.pending.is_empty() {
            if self.ended {
                return Ok(false);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.take(bytes)?,
                Some(Err(error)) => return Err(StoreError::Body(error)),
                None => self.end()?,
            }
        }
        Ok(true)
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

    /// Fills up to `most` bytes in one piece, fewer only at the body's end. A piece that came whole is not copied;
    /// others are copied once. May be dropped and called again.
    pub(super) async fn fill_to(&mut self, most: usize) -> Result<(), StoreError> {
        while self.filled() < most && !self.is_all_filled() && self.more().await? {
            let missing = most - self.filled();
            let piece = self.pending.split_to(missing.min(self.pending.len()));
            if self.filled() == 0 && (piece.len() == most || self.remaining() == Some(0)) {
                self.whole = piece;
                return Ok(());
            }
            self.copy(&piece, most);
        }
        Ok(())
    }

    /// Room is made for all that is expected, of which only what is written to takes memory.
    fn copy(&mut self, piece: &[u8], most: usize) {
        let filled = self.filled() + piece.len();
        let left = self.remaining().map_or(most, |left| usize::try_from(left).unwrap_or(most));
        let expected = most.min(filled.saturating_add(left)).max(filled);
        self.copied.reserve(expected - self.copied.len());
        let whole = std::mem::take(&mut self.whole);
        if !whole.is_empty() {
            debug_assert!(self.copied.is_empty(), "a piece that came whole is the first");
            self.copied.extend_from_slice(&whole);
        }
        self.copied.extend_from_slice(piece);
    }

    /// Hands on up to `most` bytes of what has been filled.
    pub(super) fn take_filled(&mut self, most: usize) -> Bytes {
        if !self.whole.is_empty() {
            return self.whole.split_to(most.min(self.whole.len()));
        }
        if most < self.copied.len() {
            return self.copied.split_to(most).freeze();
        }
        // Else what is left empty would keep the memory of what is handed on.
        std::mem::take(&mut self.copied).freeze()
    }

    /// Reads to the end; a body that goes on is an error only through its declared length.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        match self.filled() > 0 || self.more().await? {
            false => Ok(()),
            true => Err(StoreError::Body("it goes on after its end".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::BoxError;

    fn reader(pieces: &[&'static str], declared: Option<u64>) -> BodyReader {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        BodyReader::new(Box::pin(futures::stream::iter(pieces)), declared)
    }

    #[tokio::test]
    async fn what_is_filled_is_handed_on_in_pieces() {
        for declared in [None, Some(10)] {
            let mut body = reader(&["abcdef", "ghij"], declared);
            body.fill_to(4).await.unwrap();
            assert_eq!((body.filled(), body.remaining()), (4, declared));
            assert_eq!(body.take_filled(3), "abc");
            // In one piece, though it lies in three.
            for wanted in ["defghi", "j"] {
                body.fill_to(6).await.unwrap();
                assert_eq!(body.take_filled(6), wanted);
            }
            body.finish().await.unwrap();
            assert_eq!(body.remaining(), Some(0));
        }
    }

    #[tokio::test]
    async fn what_is_filled_stays_when_filling_is_given_up() {
        let (send, pieces) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, BoxError>>();
        let pieces = futures::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
        let mut body = BodyReader::new(Box::pin(pieces), Some(9));
        for (piece, filled) in [("abc", 3), ("de", 5)] {
            send.send(Ok(piece.into())).unwrap();
            let short = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(short, body.fill_to(8)).await.is_err(), "{piece}");
            assert_eq!((body.filled(), body.remaining()), (filled, Some(9)));
        }
        send.send(Ok("fghi".into())).unwrap();
        body.fill_to(8).await.unwrap();
        assert_eq!((body.filled(), body.pending()), (8, 1));
        assert_eq!(body.take_filled(7), "abcdefg");
        body.fill_to(8).await.unwrap();
        assert_eq!(body.take_filled(8), "hi");
        drop(send);
        body.finish().await.unwrap();
    }
}
