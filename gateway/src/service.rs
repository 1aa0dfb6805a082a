//! One request from its headers to the last byte of its answer.

use std::{
    convert::Infallible,
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
use s3s::{HttpError, S3Error, s3_error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::{
    admit::admit,
    answer::put_document,
    audit::AuditLog,
    body::ClientBody,
    connection::{RequestUnderWay, WatchedStream},
    context::{RequestContext, Unread},
    cors::CrossOrigin,
    error::{Asked, ErrorDocument, custom, from_body_fault, say_more, translate, unwritable},
    expect::{Expectation, expectation},
    metrics::Metrics,
    op::{dispatch::Operations, token_service::is_for_token_service},
    options::GatewayLimits,
    witness::{Answered, Witness},
};

/// The unread rest of a body is read this far before the connection is given up, so that a client still sending gets to
/// read the error that it was answered.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Answers the requests of all connections.
pub(crate) struct Service {
    operations: Operations,
    limits: GatewayLimits,
    metrics: Metrics,
    in_flight: Arc<Semaphore>,
    audit: Option<AuditLog>,
    /// Tells this gateway from others in what clients report.
    host_id: String,
}

impl Service {
    pub(crate) fn new(
        operations: Operations,
        limits: GatewayLimits,
        metrics: Metrics,
        audit: Option<AuditLog>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(limits.requests_in_flight));
        let host_id = format!("{:016x}", rand::random::<u64>());
        tracing::info!(host_id, "answers carry this id as x-amz-id-2");
        Self { operations, limits, metrics, in_flight, audit, host_id }
    }

    pub(crate) async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        under_way: RequestUnderWay,
    ) -> Result<Response<MeteredBody>, Infallible> {
        let context = RequestContext::new();
        context.set_peer(under_way.connection().peer().ip());
        context.set_tls(under_way.connection().tls());
        let span = tracing::info_span!(
            "s3",
            request_id = %context.id(),
            method = %request.method(),
            path = %request.uri().path(),
        );
        let witness = self.audit.as_ref().map(|audit| Witness::of(audit, &request, &context));
        let meter = Meter::start(context.clone(), self.metrics.clone(), span.clone(), witness);
        let resource = request.uri().path().to_owned();
        let (head, version) = (*request.method() == Method::HEAD, request.version());
        let for_tokens = is_for_token_service(request.method(), request.uri(), request.headers());
        let cross_origin = CrossOrigin::of(&request).filter(|asked| !asked.is_preflight());
        let (permit, answered) = match self.in_flight.clone().try_acquire_owned() {
            Ok(permit) => {
                let answer = self.answer(request, &context, &under_way).instrument(span.clone());
                (Some(permit), answer.await)
            }
            Err(_) => (None, Err(self.refuse(request, &context))),
        };
        let (mut response, code) = match answered {
            Ok(response) => (response, None),
            Err(document) if for_tokens => (document.respond_of_token_service(context.id()), Some(document.code)),
            Err(document) => (document.respond(&resource, context.id(), &self.host_id), Some(document.code)),
        };
        self.finish(&mut response, &context);
        if let Some(asked) = cross_origin {
            let headers = self.operations.cross_origin_headers(&asked, permit.is_none()).await;
            response.headers_mut().extend(headers);
        }
        match context.take_unread() {
            Some(Unread::Rest(rest)) => drop(tokio::spawn(drain(rest, under_way.connection().begin_request()))),
            Some(Unread::GivenUp) if version <= Version::HTTP_11 => {
                under_way.connection().give_up_body();
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Some(Unread::GivenUp) | None => {}
        }
        let (parts, body) = response.into_parts();
        let meter = meter.answered(parts.status, code, permit, head);
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
    ) -> Result<Response<s3s::Body>, ErrorDocument> {
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
            return Err(ErrorDocument::of(&unknown_expectation()));
        }
        admit(&mut parts, self.limits.header_bytes).map_err(|error| ErrorDocument::of(&error))?;
        let asked = Asked::of(&parts);
        parts.extensions.insert(context.clone());
        let request = Request::from_parts(parts, s3s::Body::http_body_unsync(body));
        let answered = self.operations.call(request, context).await;
        if let Some(Err(refusal)) = context.outcome() {
            return Err(say_more(refusal.clone(), &asked));
        }
        let response = answered.map_err(|error| unwritten(&error, context))?;
        let status = response.status();
        match context.fault() {
            // `s3s` takes any failure to read a body for one of its own.
            Some(fault) if status == StatusCode::INTERNAL_SERVER_ERROR => {
                Err(ErrorDocument::of(&from_body_fault(fault)))
            }
            _ if status.is_client_error() || status.is_server_error() => {
                Err(translate(&response.body().bytes().unwrap_or_default(), status, &asked))
            }
            _ => Ok(response),
        }
    }

    /// Too busy even to read on: a client that sends a body has to come again on another connection.
    fn refuse(&self, request: Request<Incoming>, context: &RequestContext) -> ErrorDocument {
        if !request.body().is_end_stream() {
            context.leave(Unread::GivenUp);
        }
        drop(request);
        self.metrics.refused_requests.inc();
        ErrorDocument::of(&s3_error!(SlowDown))
    }

    /// Adds what every answer has.
    fn finish(&self, response: &mut Response<s3s::Body>, context: &RequestContext) {
        put_document(response);
        let headers = response.headers_mut();
        for (name, value) in [("x-amz-request-id", context.id()), ("x-amz-id-2", self.host_id.as_str())] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.insert(header::SERVER, HeaderValue::from_static("Cairn"));
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // `s3s` forgets it for HEAD.
        if response.status() == StatusCode::OK && response.headers().contains_key(header::CONTENT_RANGE) {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
}

fn unknown_expectation() -> S3Error {
    custom(
        "ExpectationFailed",
        StatusCode::EXPECTATION_FAILED,
        "The Expect header names an expectation that cannot be met; only 100-continue can.",
    )
}

/// `s3s` could not write an answer.
fn unwritten(error: &HttpError, context: &RequestContext) -> ErrorDocument {
    if context.outcome().is_some() {
        // Operations answer only what can be written, so this is a fault of ours, and the deed is done.
        tracing::error!(%error, "could not write an answer");
        return ErrorDocument::of(&s3_error!(InternalError));
    }
    tracing::debug!(%error, "could not write a refusal");
    ErrorDocument::of(&unwritable())
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
    /// S3's, of an error.
    code: Option<String>,
    complete: bool,
    sent_bytes: u64,
    witness: Option<Witness>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Meter {
    fn start(context: RequestContext, metrics: Metrics, span: tracing::Span, witness: Option<Witness>) -> Self {
        metrics.requests_in_flight.inc();
        Self {
            context,
            metrics,
            span,
            started: Instant::now(),
            status: None,
            code: None,
            complete: false,
            sent_bytes: 0,
            witness,
            _permit: None,
        }
    }

    /// `complete`: no body follows, whatever the headers say of its length (HEAD).
    fn answered(
        mut self,
        status: StatusCode,
        code: Option<String>,
        permit: Option<OwnedSemaphorePermit>,
        complete: bool,
    ) -> Self {
        self.status = Some(status);
        self.code = code;
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
        let code = self.code.as_deref().unwrap_or_default();
        if let Some(witness) = &self.witness {
            witness.tell(&Answered {
                status: self.status.map(|status| status.as_u16()),
                complete: status.is_some(),
                code: self.code.as_deref(),
                sent,
                received,
                seconds,
            });
        }
        let _entered = self.span.enter();
        match status {
            // What is not there yet is no failure, and asking whether something exists is no refusal.
            Some(StatusCode::NOT_IMPLEMENTED) => {
                tracing::info!(operation, status = label, code, seconds, sent, received, "request refused");
            }
            Some(StatusCode::NOT_FOUND | StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED) => {
                tracing::debug!(operation, status = label, code, seconds, sent, received, "request answered");
            }
            Some(status) if status.is_server_error() => {
                tracing::warn!(operation, status = label, code, seconds, sent, received, "request failed");
            }
            Some(status) if status.is_client_error() => {
                tracing::info!(operation, status = label, code, seconds, sent, received, "request refused");
            }
            Some(_) => tracing::debug!(operation, status = label, seconds, sent, received, "request answered"),
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
