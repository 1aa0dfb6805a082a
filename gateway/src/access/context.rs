//! The condition keys of a request and their values. Only those that a policy asks for are gathered.

use cairn_iam::Context;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    account::{ACCOUNT, ROOT_ARN, user_arn},
    asking::Asking,
    callers::Caller,
};
use crate::{copy_source::CopySource, session::Whose};

/// Headers whose condition keys are called as they are.
const HEADERS: [&str; 18] = [
    "if-match",
    "if-none-match",
    "x-amz-acl",
    "x-amz-content-sha256",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-metadata-directive",
    "x-amz-object-ownership",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
];
/// What keys of locks are called without, against their headers.
const LOCK: &str = "x-amz-object-lock-";
const SECONDS_OF_A_DAY: i64 = 86_400;

/// What is known of an object or a copy besides the request.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    pub(super) version: Option<&'a str>,
    /// Of the object as it is.
    pub(super) existing_tags: &'a [(String, String)],
    /// That it is to have.
    pub(super) request_tags: &'a [(String, String)],
}

/// Gathers what is `wanted`, by name.
pub(super) struct Gathered<'a, 'w> {
    wanted: &'w dyn Fn(&str) -> bool,
    context: Context<'a>,
}

impl<'a> Gathered<'a, '_> {
    fn add(&mut self, key: &str, value: impl FnOnce() -> Option<String>) {
        if (self.wanted)(key)
            && let Some(value) = value()
        {
            self.context.add(key.to_owned(), value);
        }
    }

    fn tags(&mut self, prefix: &str, tags: &[(String, String)]) {
        if (self.wanted)(prefix) {
            for (name, value) in tags {
                self.context.add(format!("{prefix}{name}"), value.clone());
            }
        }
    }
}

/// All that `wanted` asks for.
pub(super) fn context<'a>(
    asking: &Asking<'_>,
    caller: &Caller,
    known: Known<'_>,
    wanted: &dyn Fn(&str) -> bool,
) -> Context<'a> {
    let mut gathered = Gathered { wanted, context: Context::new() };
    of_caller(&mut gathered, caller);
    of_connection(&mut gathered, asking);
    of_signature(&mut gathered, asking);
    of_request(&mut gathered, asking);
    gathered.add("s3:versionid", || known.version.map(ToOwned::to_owned));
    gathered.tags("s3:ExistingObjectTag/", known.existing_tags);
    gathered.tags("s3:RequestObjectTag/", known.request_tags);
    if wanted("s3:RequestObjectTagKeys") {
        for (name, _) in known.request_tags {
            gathered.context.add("s3:RequestObjectTagKeys", name.clone());
        }
    }
    gathered.context
}

fn of_caller(gathered: &mut Gathered<'_, '_>, caller: &Caller) {
    let (kind, id, arn) = match caller {
        Caller::Anonymous => ("Anonymous", "anonymous".to_owned(), None),
        Caller::Root => ("Account", ACCOUNT.to_owned(), Some(ROOT_ARN.to_owned())),
        Caller::User(_) | Caller::Session(..) => {
            let id = match caller.principal() {
                cairn_iam::Principal::User { id, .. } => id.to_owned(),
                _ => String::new(),
            };
            ("User", id, caller.name().map(user_arn))
        }
        Caller::Role(holder) => ("AssumedRole", holder.id.clone(), Some(holder.arn.clone())),
    };
    if let Caller::Role(holder) = caller
        && let Whose::WebIdentity(web) = &holder.opened.session.of
    {
        for (key, value) in [("jwt:iss", &web.issuer), ("jwt:sub", &web.subject), ("jwt:aud", &web.audience)] {
            gathered.add(key, || Some(value.clone()));
        }
    }
    gathered.add("aws:PrincipalType", || Some(kind.to_owned()));
    gathered.add("aws:userid", || Some(id));
    gathered.add("aws:PrincipalAccount", || arn.is_some().then(|| ACCOUNT.to_owned()));
    gathered.add("aws:PrincipalArn", || arn.clone());
    gathered.add("aws:username", || caller.name().map(ToOwned::to_owned));
    gathered.add("s3:ResourceAccount", || Some(ACCOUNT.to_owned()));
}

fn of_connection(gathered: &mut Gathered<'_, '_>, asking: &Asking<'_>) {
    let now = OffsetDateTime::now_utc();
    gathered.add("aws:CurrentTime", || now.format(&Rfc3339).ok());
    gathered.add("aws:EpochTime", || Some(now.unix_timestamp().to_string()));
    gathered.add("aws:SourceIp", || Some(asking.context?.peer()?.to_canonical().to_string()));
    let tls = asking.context.and_then(|context| context.tls());
    gathered.add("aws:SecureTransport", || Some(tls.is_some().to_string()));
    gathered.add("s3:TlsVersion", || tls.map(ToOwned::to_owned));
    gathered.add("aws:UserAgent", || asking.sent("user-agent"));
    gathered.add("aws:Referer", || asking.sent("referer"));
}

fn of_signature(gathered: &mut Gathered<'_, '_>, asking: &Asking<'_>) {
    let Some(signature) = asking.signature() else { return };
    gathered.add("s3:authType", || Some(signature.auth_type.to_owned()));
    gathered.add("s3:signatureversion", || Some(signature.version.to_owned()));
    gathered.add("s3:signatureAge", || {
        let age = OffsetDateTime::now_utc() - signature.signed?;
        Some(age.whole_milliseconds().max(0).to_string())
    });
}

fn of_request(gathered: &mut Gathered<'_, '_>, asking: &Asking<'_>) {
    for parameter in ["prefix", "delimiter", "max-keys"] {
        gathered.add(&format!("s3:{parameter}"), || asking.parameter(parameter).map(ToOwned::to_owned));
    }
    for name in HEADERS {
        let key = match name.strip_prefix(LOCK) {
            Some(rest) => format!("s3:object-lock-{rest}"),
            None => format!("s3:{name}"),
        };
        gathered.add(&key, || asking.header(name));
    }
    gathered.add("s3:object-lock-remaining-retention-days", || {
        let until = asking.header("x-amz-object-lock-retain-until-date")?;
        let left = OffsetDateTime::parse(&until, &Rfc3339).ok()? - OffsetDateTime::now_utc();
        Some((left.whole_seconds().max(0).saturating_add(SECONDS_OF_A_DAY - 1) / SECONDS_OF_A_DAY).to_string())
    });
    // As policies write it: without a version and with nothing encoded.
    gathered.add("s3:x-amz-copy-source", || {
        let source = CopySource::parse(asking.headers.get("x-amz-copy-source")?).ok()?;
        Some(format!("{}/{}", source.bucket, source.key))
    });
    // Of what is stored, not of the chunks that it comes in.
    gathered.add("s3:content-length", || {
        let length = asking.header("x-amz-decoded-content-length");
        let is_copy = asking.headers.contains_key("x-amz-copy-source");
        length.or_else(|| asking.header("content-length")).filter(|_| !asking.is_form && !is_copy)
    });
    let location = asking.body.as_ref().and_then(|body| body.location.clone());
    gathered.add("s3:LocationConstraint", || location);
}
