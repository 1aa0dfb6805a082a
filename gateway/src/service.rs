//! One request from its headers to the last byte of its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3s::{HttpError, S3Error, s3_error, service::S3Service};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::{
    admit::admit,
    answer::put_document,
    body::ClientBody,
    connection::{RequestUnderWay, WatchedStream},
    context::{RequestContext, Unread},
    error::{complete_document, custom, from_body_fault},
    expect::{Expectation, expectation},
    metrics::Metrics,
    options::GatewayLimits,
};

/// The unread rest of a body is read this far before the connection is given up, so that a client still sending gets to
/// read the error that it was answered.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Answers the requests of all connections.
pub(crate) struct Service {
    s3: S3Service,
    limits: GatewayLimits,
    metrics: Metrics,
    in_flight: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(s3: S3Service, limits: GatewayLimits, metrics: Metrics) -> Self {
        let in_flight = Arc::new(Semaphore::new(limits.requests_in_flight));
        Self { s3, limits, metrics, in_flight }
    }

    /// An error here makes hyper abort the connection.
    pub(crate) async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        under_way: RequestUnderWay,
    ) -> Result<Response<MeteredBody>, HttpError> {
        let context = RequestContext::new();
        let span = tracing::info_span!(
            "s3",
            request_id = %context.id(),
            method = %request.method(),
            path = %request.uri().path(),
        );
        let meter = Meter::start(context.clone(), self.metrics.clone(), span.clone());
        let resource = request.uri().path().to_owned();
        let (head, version) = (*request.method() == Method::HEAD, request.version());
        let (permit, answered) = match self.in_flight.clone().try_acquire_owned() {
            Ok(permit) => {
                let answer = self.answer(request, &context, &under_way).instrument(span.clone());
                (Some(permit), answer.await)
            }
            Err(_) => (None, self.refuse(request, &context)),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                span.in_scope(|| tracing::error!(%error, "could not write an answer"));
                return Err(error);
            }
        };
        finish(&mut response, &resource, &context);
        match context.take_unread() {
            Some(Unread::Rest(rest)) => drop(tokio::spawn(drain(rest, under_way.connection().begin_request()))),
            Some(Unread::GivenUp) if version <= Version::HTTP_11 => {
                under_way.connection().give_up_body();
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Some(Unread::GivenUp) | None => {}
        }
        let (parts, body) = response.into_parts();
        let meter = meter.answered(parts.status, permit, head);
        let stream =
            (version == Version::HTTP_2).then(|| under_way.connection().watch_stream(self.limits.answer_pace()));
        let body = MeteredBody { inner: body, rest: Bytes::new(), stream, meter, _under_way: under_way };
        Ok(Response::from_parts(parts, body))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        context: &RequestContext,
        under_way: &RequestUnderWay,
    ) -> Result<Response<s3s::Body>, HttpError> {
        let expectation = expectation(&request);
        let (mut parts, body) = request.into_parts();
        let mut waits = expectation == Expectation::Continue;
        if waits && body.is_end_stream() {
            // There is nothing to wait for, yet the client may.
            under_way.connection().send_continue().await;
            waits = false;
        }
        let body = ClientBody::new(body, context.clone(), self.limits.body_pace(), waits);
        if expectation == Expectation::Unknown {
            return error_response(unknown_expectation());
        }
        if let Err(error) = admit(&mut parts, self.limits.header_bytes) {
            return error_response(error);
        }
        parts.extensions.insert(context.clone());
        let request = Request::from_parts(parts, s3s::Body::http_body_unsync(body));
        let response = self.s3.call(request).await?;
        match context.fault() {
            // `s3s` takes any failure to read a document for one of its own.
            Some(fault) if response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                error_response(from_body_fault(fault))
            }
            _ => Ok(response),
        }
    }

    /// Too busy even to read on: a client that sends a body has to come again on another connection.
    fn refuse(&self, request: Request<Incoming>, context: &RequestContext) -> Result<Response<s3s::Body>, HttpError> {
        if !request.body().is_end_stream() {
            context.leave(Unread::GivenUp);
        }
        drop(request);
        self.metrics.refused_requests.inc();
        let mut response = error_response(s3_error!(SlowDown, "Please reduce your request rate."))?;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        Ok(response)
    }
}

fn unknown_expectation() -> S3Error {
    custom(
        "ExpectationFailed",
        StatusCode::EXPECTATION_FAILED,
        "The Expect header names an expectation that cannot be met; only 100-continue can.",
    )
}

fn error_response(error: S3Error) -> Result<Response<s3s::Body>, HttpError> {
    error.to_http_response().map_err(|error| HttpError::from_std_error(Box::new(error)))
}

/// Adds what every answer has, and what error documents lack.
fn finish(response: &mut Response<s3s::Body>, resource: &str, context: &RequestContext) {
    if let Ok(id) = HeaderValue::from_str(context.id()) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    put_document(response);
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("Cairn"));
    // `s3s` forgets it for HEAD.
    if response.status() == StatusCode::OK && response.headers().contains_key(header::CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        return;
    }
    if let Some(document) = response.body().bytes().filter(|document| !document.is_empty()) {
        // The length is hyper's to work out again.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = complete_document(document, resource, context.id()).into();
    }
}

async fn drain(mut rest: Incoming, _under_way: RequestUnderWay) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = rest.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

/// Counts one request, whatever becomes of it: it reports when it is dropped.
struct Meter {
    context: RequestContext,
    metrics: Metrics,
    span: tracing::Span,
    started: Instant,
    /// None until there is an answer.
    status: Option<StatusCode>,
    complete: bool,
    sent_bytes: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Meter {
    fn start(context: RequestContext, metrics: Metrics, span: tracing::Span) -> Self {
        metrics.requests_in_flight.inc();
        Self {
            context,
            metrics,
            span,
            started: Instant::now(),
            status: None,
            complete: false,
            sent_bytes: 0,
            _permit: None,
        }
    }

    /// `complete`: no body follows, whatever the headers say of its length (HEAD).
    fn answered(mut self, status: StatusCode, permit: Option<OwnedSemaphorePermit>, complete: bool) -> Self {
        self.status = Some(status);
        self.complete = complete;
        self._permit = permit;
        self
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let operation = self.context.operation();
        let seconds = self.started.elapsed().as_secs_f64();
        let status = self.status.filter(|_| self.complete);
        let label = status.as_ref().map_or("aborted", StatusCode::as_str);
        self.metrics.requests_in_flight.dec();
        self.metrics.requests.with_label_values(&[operation, label]).inc();
        self.metrics.request_seconds.with_label_values(&[operation]).observe(seconds);
        self.metrics.received_bytes.with_label_values(&[operation]).inc_by(self.context.received_bytes());
        self.metrics.sent_bytes.with_label_values(&[operation]).inc_by(self.sent_bytes);
        let (sent, received) = (self.sent_bytes, self.context.received_bytes());
        let _entered = self.span.enter();
        match status {
            Some(status) if status.is_server_error() => {
                tracing::warn!(operation, status = label, seconds, sent, received, "request failed");
            }
            Some(status) if status.is_client_error() => {
                tracing::info!(operation, status = label, seconds, sent, received, "request refused");
            }
            Some(_) => tracing::debug!(operation, status = label, seconds, sent, received, "request served"),
            None => tracing::info!(operation, status = label, seconds, sent, received, "request broken off"),
        }
    }
}

/// An answer's body, counted.
pub(crate) struct MeteredBody {
    inner: s3s::Body,
    /// What is not handed out yet of a piece that is too large to tell how fast a stream is read.
    rest: Bytes,
    /// Of HTTP/2, whose streams may stand still while the socket does not.
    stream: Option<WatchedStream>,
    meter: Meter,
    _under_way: RequestUnderWay,
}

/// HTTP/2 asks for more only when all that it was handed is on its way.
const STREAM_PIECE_BYTES: usize = 64 << 10;

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        if let Some(stream) = &self.stream
            && stream.asked_for_more().is_err()
        {
            return Poll::Ready(Some(Err("the answer was read too slowly".into())));
        }
        let frame = if self.rest.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.rest))))
        };
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(self.hand_out(frame)))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                self.meter.complete = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

impl MeteredBody {
    fn hand_out(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => return other,
        };
        if let Some(stream) = &self.stream {
            if data.len() > STREAM_PIECE_BYTES {
                self.rest = data.split_off(STREAM_PIECE_BYTES);
            }
            stream.handed_out(data.len());
        }
        self.meter.sent_bytes += data.len() as u64;
        Frame::data(data)
    }
}

impl Drop for MeteredBody {
    fn drop(&mut self) {
        // hyper does not poll a body that says it has ended.
        self.meter.complete |= self.is_end_stream();
    }
}
