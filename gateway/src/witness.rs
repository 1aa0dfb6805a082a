//! What the audit log is told of a request.

use http::{Request, header};
use serde::Serialize;

use crate::{audit::AuditLog, context::RequestContext};

/// Of what clients send, so much is kept in a line.
const MAX_TEXT: usize = 1024;

/// One request, from its headers to its end.
pub(crate) struct Witness {
    audit: AuditLog,
    context: RequestContext,
    method: String,
    /// Without the query, which may have a signature in it.
    path: String,
    user_agent: Option<String>,
}

/// How it ended.
pub(crate) struct Answered<'a> {
    /// None if there was no answer.
    pub(crate) status: Option<u16>,
    /// The client took all of the answer.
    pub(crate) complete: bool,
    /// S3's, of an error.
    pub(crate) code: Option<&'a str>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) seconds: f64,
}

#[derive(Serialize)]
struct Line<'a> {
    request_id: &'a str,
    source: Option<String>,
    tls: Option<&'a str>,
    /// None of whom nothing is known: the request was refused before it was known who asks.
    caller: Option<&'a str>,
    access_key: Option<&'a str>,
    operation: &'a str,
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    user_agent: Option<&'a str>,
    status: Option<u16>,
    complete: bool,
    code: Option<&'a str>,
    sent_bytes: u64,
    received_bytes: u64,
    seconds: f64,
}

impl Witness {
    pub(crate) fn of<B>(audit: &AuditLog, request: &Request<B>, context: &RequestContext) -> Self {
        context.audit();
        let user_agent = request.headers().get(header::USER_AGENT);
        Self {
            audit: audit.clone(),
            context: context.clone(),
            method: cut(request.method().as_str()),
            path: cut(request.uri().path()),
            user_agent: user_agent.map(|value| cut(&String::from_utf8_lossy(value.as_bytes()))),
        }
    }

    pub(crate) fn tell(&self, answered: &Answered<'_>) {
        let Self { audit, context, method, path, user_agent } = self;
        let asked = context.asked();
        audit.tell(
            "request",
            &Line {
                request_id: context.id(),
                source: context.peer().map(|address| address.to_string()),
                tls: context.tls(),
                caller: context.caller(),
                access_key: asked.and_then(|asked| asked.access_key.as_deref()),
                operation: context.operation(),
                bucket: asked.and_then(|asked| asked.bucket.as_deref()),
                key: asked.and_then(|asked| asked.key.as_deref()),
                version: asked.and_then(|asked| asked.version.as_deref()),
                method,
                path,
                user_agent: user_agent.as_deref(),
                status: answered.status,
                complete: answered.complete,
                code: answered.code,
                sent_bytes: answered.sent,
                received_bytes: answered.received,
                seconds: answered.seconds,
            },
        );
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}
