//! The file of a form on its way into the store.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use cairn_actors::error::BoxError;
use futures::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use parking_lot::Mutex;
use s3s::Body;
use s3s_multipart::{Boundary, PartDataStream};

use super::malformed::{malformed, read_error};
use crate::error::too_large;

/// Of what follows the file, which is read so that the connection can be used again.
const REST_MAX_BYTES: usize = 1 << 20;

/// A request's body, read by the parser and, behind the file, by us.
#[derive(Clone)]
pub(super) struct SharedBody(Arc<Mutex<Passing>>);

struct Passing {
    body: BodyDataStream<Body>,
    /// All bytes that have been handed out.
    passed_bytes: u64,
    /// The piece handed out last.
    last: Bytes,
}

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Passing { body: BodyDataStream::new(body), passed_bytes: 0, last: Bytes::new() })))
    }

    /// What has been handed out behind this many bytes: no more than the last piece.
    fn since(&self, bytes: u64) -> Bytes {
        let inner = self.0.lock();
        let behind = usize::try_from(inner.passed_bytes.saturating_sub(bytes)).unwrap_or(usize::MAX);
        inner.last.slice(inner.last.len().saturating_sub(behind)..)
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, s3s_multipart::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.0.lock();
        let item = ready!(inner.body.poll_next_unpin(cx));
        if let Some(Ok(data)) = &item {
            inner.passed_bytes += data.len() as u64;
            inner.last = data.clone();
        }
        Poll::Ready(item.map(|item| item.map_err(s3s_multipart::Error::stream_read_failed)))
    }
}

/// The file's bytes. It ends only when the whole request has been read, and what follows the file is part of a form.
pub(crate) struct FileBody {
    data: PartDataStream<SharedBody>,
    body: SharedBody,
    /// What ends a part: `\r\n--boundary`.
    delimiter_bytes: u64,
    file_bytes: u64,
    max_bytes: u64,
    /// None while the file lasts.
    rest: Option<BytesMut>,
    rest_bytes: usize,
    ended: Arc<AtomicBool>,
}

impl FileBody {
    pub(super) fn new(data: PartDataStream<SharedBody>, body: SharedBody, boundary: &Boundary) -> Self {
        Self {
            data,
            body,
            delimiter_bytes: boundary.len() as u64 + 4,
            file_bytes: 0,
            max_bytes: u64::MAX,
            rest: None,
            rest_bytes: 0,
            ended: Arc::default(),
        }
    }

    /// More than this is refused while it comes.
    pub(super) fn limit(&mut self, max_bytes: u64) {
        self.max_bytes = self.max_bytes.min(max_bytes);
    }

    /// True once all of it has been read.
    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        self.ended.clone()
    }

    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match ready!(self.data.poll_next_unpin(cx)) {
            Some(Ok(data)) => {
                self.file_bytes += data.len() as u64;
                if self.file_bytes > self.max_bytes {
                    return Poll::Ready(Some(Err(too_large(self.file_bytes, self.max_bytes).into())));
                }
                Poll::Ready(Some(Ok(data)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(read_error(error).into()))),
            None => Poll::Ready(None),
        }
    }

    /// Behind the file there is another part or the end of the form.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if self.rest_bytes > REST_MAX_BYTES {
                return Poll::Ready(Some(Err(malformed("what follows the file is too long").into())));
            }
            let item = ready!(Pin::new(&mut self.body).poll_next(cx));
            let rest = self.rest.get_or_insert_default();
            match item {
                Some(Ok(data)) => {
                    self.rest_bytes += data.len();
                    // Enough to tell what it is.
                    rest.extend_from_slice(&data[..data.len().min(64)]);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(read_error(error).into()))),
                None if ends_a_part(rest) => {
                    self.ended.store(true, Ordering::Release);
                    return Poll::Ready(None);
                }
                None => return Poll::Ready(Some(Err(malformed("the file's end is damaged").into()))),
            }
        }
    }
}

/// Whether a delimiter is one: closing, or on a line of its own.
fn ends_a_part(rest: &[u8]) -> bool {
    let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest.starts_with(b"--") || rest[padding..].starts_with(b"\r\n")
}

impl Stream for FileBody {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_none() {
            if let Some(item) = ready!(self.poll_file(cx)) {
                return Poll::Ready(Some(item));
            }
            let end = self.data.multipart_consumed() + self.file_bytes + self.delimiter_bytes;
            let handed_out = self.body.since(end);
            self.rest_bytes = handed_out.len();
            self.rest = Some(BytesMut::from(&handed_out[..handed_out.len().min(64)]));
        }
        self.poll_rest(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;

    use http::{HeaderMap, HeaderValue, header};
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;
    use crate::op::forms::fields::Form;

    /// The file of a form that comes in these pieces.
    fn file_of(pieces: Vec<Vec<u8>>) -> Result<Vec<u8>, String> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(piece))));
        let body = Body::http_body_unsync(StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>())));
        let content_type = HeaderValue::from_static("multipart/form-data; boundary=bound");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        futures::executor::block_on(async {
            let form = Form::read(&headers, body).await.map_err(|error| error.code().as_str().to_owned())?;
            let mut file = form.file;
            let mut bytes = Vec::new();
            while let Some(data) = file.next().await {
                bytes.extend_from_slice(&data.map_err(|error| error.to_string())?);
            }
            assert!(file.ended().load(Ordering::Acquire));
            Ok(bytes)
        })
    }

    fn form(file: &[u8], rest: &str) -> Vec<u8> {
        let head = "--bound\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
        [head.as_bytes(), file, b"\r\n--bound", rest.as_bytes()].concat()
    }

    #[test]
    fn what_follows_the_file_is_ignored() {
        let submit = "\r\nContent-Disposition: form-data; name=\"go\"\r\n\r\nUpload\r\n--bound--\r\n";
        for rest in ["--\r\n", "--", "--\r\nan epilogue", " \t\r\n--bound--", submit] {
            assert_eq!(file_of(vec![form(b"x\r\n--boun", rest)]).unwrap(), b"x\r\n--boun", "{rest}");
        }
    }

    #[test]
    fn con_2_a_file_that_does_not_end_as_a_part_is_an_error() {
        for rest in ["", "-", "ary continues\r\n--bound--\r\n", "\n--bound--\r\n"] {
            assert!(file_of(vec![form(b"x", rest)]).is_err(), "{rest}");
        }
        assert!(file_of(vec![form(b"x", &format!("--{}", "y".repeat(REST_MAX_BYTES)))]).is_err());
        let whole = form(b"some bytes", "--\r\n");
        for length in 0..whole.len() - 4 {
            assert!(file_of(vec![whole[..length].to_vec()]).is_err(), "{length}");
        }
    }

    proptest! {
        /// However the network cuts it, the file is the same.
        #[test]
        fn the_pieces_do_not_matter(file in proptest::collection::vec(prop::sample::select(b"\r\n-bound x".to_vec()), 0..40), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            prop_assume!(!file.windows(9).any(|window| window == b"\r\n--bound"));
            let whole = form(&file, "\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\n\r\n--bound--\r\n");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let pieces = at.windows(2).map(|ends| whole[ends[0]..ends[1]].to_vec()).collect();
            // A file may end in what begins a delimiter.
            let joined = [file.as_slice(), b"\r\n--bound"].concat();
            prop_assume!(joined.windows(9).position(|window| window == b"\r\n--bound") == Some(file.len()));
            prop_assert_eq!(file_of(pieces).unwrap(), file);
        }
    }
}
