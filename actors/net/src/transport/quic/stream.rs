//! Frames on streams.

use bytes::{Bytes, BytesMut};
use cairn_fragment::{BLOCK_BYTES, block_checksum};
use quinn::{ReadError, ReadExactError, RecvStream, VarInt, WriteError};
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

use super::{code, guard::SendGuard};
use crate::wire::{
    Frame, FrameError, PayloadHeader,
    header::{PREFIX_BYTES, decode, header_length},
};

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stream ended inside a frame")]
    Short,
    #[error("the stream goes on behind the payload")]
    Long,
    /// Nothing arrived, or the other side gave up before the frame was whole.
    #[error("given up by the peer: {}", code::meaning(*.0))]
    GivenUp(VarInt),
    #[error(transparent)]
    Lost(#[from] quinn::ConnectionError),
}

impl StreamError {
    /// What to tell the other side.
    pub(super) fn code(&self) -> VarInt {
        match self {
            Self::Frame(FrameError::Version(_)) => code::BAD_VERSION,
            Self::Frame(FrameError::PayloadTooLarge { .. } | FrameError::HeaderTooLarge(_)) => code::TOO_LARGE,
            Self::GivenUp(_) | Self::Lost(_) => code::CANCELLED,
            Self::Frame(_) | Self::Short | Self::Long => code::BAD_FRAME,
        }
    }

    /// For metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Frame(FrameError::Version(_)) => "version",
            Self::Frame(FrameError::HeaderTooLarge(_)) => "header_too_large",
            Self::Frame(FrameError::PayloadTooLarge { .. }) => "payload_too_large",
            Self::Frame(FrameError::BadChecksum(_)) => "checksum",
            Self::Frame(FrameError::Header(_) | FrameError::Checksums { .. }) => "header",
            Self::Short => "short",
            Self::Long => "long",
            Self::GivenUp(_) => "given_up",
            Self::Lost(_) => "lost",
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::GivenUp(code),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            // We neither read unordered, nor 0-RTT, nor after stopping.
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Short,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::GivenUp(code),
            WriteError::ConnectionLost(error) => Self::Lost(error),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Short,
        }
    }
}

impl From<ReadExactError> for StreamError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Short,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

/// Reads a frame's prefix and header. Takes no more memory than `MAX_HEADER_BYTES`.
pub(super) async fn read_header<H: DeserializeOwned>(recv: &mut RecvStream) -> Result<H, StreamError> {
    let mut prefix = [0; PREFIX_BYTES];
    recv.read_exact(&mut prefix).await?;
    let mut header = vec![0; header_length(&prefix)?];
    recv.read_exact(&mut header).await?;
    Ok(decode(&header)?)
}

/// Reads a payload whose header has been checked, and the stream's end behind it. Blocks are verified as they come when
/// `verify`.
pub(super) async fn read_payload(
    recv: &mut RecvStream,
    header: &PayloadHeader,
    verify: bool,
) -> Result<Bytes, StreamError> {
    let length = header.length as usize;
    let mut payload = BytesMut::with_capacity(length);
    let mut checksums = header.checksums.iter().enumerate();
    let mut verified = 0;
    while payload.len() < length {
        let before = payload.len();
        let mut rest = recv.take((length - before) as u64);
        rest.read_buf(&mut payload).await.map_err(of_io)?;
        if payload.len() == before {
            return Err(StreamError::Short);
        }
        while verify && verified < payload.len() && (payload.len() - verified >= BLOCK_BYTES || payload.len() == length)
        {
            let end = (verified + BLOCK_BYTES).min(length);
            match checksums.next() {
                Some((_, checksum)) if block_checksum(&payload[verified..end]) == *checksum => {}
                Some((index, _)) => return Err(FrameError::BadChecksum(index).into()),
                None => {
                    return Err(
                        FrameError::Checksums { checksums: header.checksums.len(), length: header.length }.into()
                    );
                }
            }
            verified = end;
        }
    }
    match recv.read_chunk(1, true).await? {
        None => Ok(payload.freeze()),
        Some(_) => Err(StreamError::Long),
    }
}

/// The stream's own error, which `AsyncRead` wraps.
fn of_io(error: std::io::Error) -> StreamError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>()) {
        Some(error) => error.clone().into(),
        None => StreamError::Short,
    }
}

/// Writes a whole frame and finishes the stream. The payload's buffer is handed over, not copied.
pub(super) async fn write_frame(send: &mut SendGuard, frame: Frame) -> Result<(), StreamError> {
    // Probes, errors and small fragments do not queue behind bulk. Fails only when the stream is over, which the write
    // notices.
    let urgent = frame.payload.len() <= BLOCK_BYTES;
    let _ = send.stream().set_priority(urgent.into());
    let used = if frame.payload.is_empty() { 1 } else { 2 };
    let mut chunks = [frame.head, frame.payload];
    send.stream().write_all_chunks(&mut chunks[..used]).await?;
    send.finish();
    Ok(())
}
