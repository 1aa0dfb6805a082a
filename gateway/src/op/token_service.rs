//! The token service (STS), at the same address: temporary credentials for users, who get their own rights or less.
//!
//! There are no roles but those of web identities (`web_tokens`). A user assumes what the user is:
//! `arn:aws:iam::000000000000:user/NAME`, or a role of the same name for clients that take no other address. Whoever is
//! a user may; the root may not, nor may a session, whose time would never end else. What AWS knows besides (managed
//! policies, tags, external ids, MFA) is refused.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use bytes::Bytes;
use cairn_iam::{Policy, PolicyKind};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use super::Api;
use crate::{
    access::{ACCOUNT, Asking, Identity, NewSession, WantedSession},
    answer::documented,
    context::RequestContext,
    error::{STS_NAMESPACE, custom},
    query::Query,
    session::POLICY_MAX_BYTES,
    xml::Writer,
};

pub(super) const API_VERSION: &str = "2011-06-15";
const FORM: &[u8] = b"application/x-www-form-urlencoded";
pub(super) const WITH_WEB_IDENTITY: &str = "AssumeRoleWithWebIdentity";
/// As much as the verifier of signatures reads of such a request.
const BODY_MAX_BYTES: usize = 8192;
const SECONDS: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
/// What AWS allows a role, and a session of GetSessionToken.
pub(super) const ROLE_SECONDS: Seconds = Seconds { least: 900, most: 43_200, unsaid: 3600 };
const SESSION_SECONDS: Seconds = Seconds { least: 900, most: 129_600, unsaid: 43_200 };

pub(super) struct Seconds {
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) unsaid: u64,
}

/// Whether a request is one to the token service: S3 has nothing that is posted to its root.
pub(crate) fn is_for_token_service(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_form = content_type.is_some_and(|value| {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(FORM)
    });
    *method == Method::POST && uri.path() == "/" && is_form
}

impl Api {
    /// The signature has been verified.
    pub(super) async fn token_service(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let context = RequestContext::of(&request.extensions).cloned();
        let access_key = request.credentials.as_ref().map(|credentials| credentials.access_key.clone());
        let Some(access_key) = access_key else { return self.web_tokens(request).await };
        demand_signed_body(&request)?;
        let asked = read_form(&mut request.input, BODY_MAX_BYTES).await?;
        let action = one(&asked, "Action")?.unwrap_or_default();
        if action == WITH_WEB_IDENTITY {
            return self.assume_with_web_identity(&asked, context.as_ref()).await;
        }
        let known = ["AssumeRole", "GetSessionToken", "GetCallerIdentity"].contains(&action);
        let version = one(&asked, "Version")?.unwrap_or_default();
        if !known || version != API_VERSION {
            return Err(invalid_action(action, version));
        }
        if let Some(context) = &context {
            context.set_operation(action);
        }
        let session = context.as_ref().and_then(RequestContext::session);
        let identity = self.credentials.identity(&access_key, session).await?;
        let heads = (&request.headers, &request.uri);
        let asking = Asking::new(action, (None, None), Some(&access_key), heads, context.as_ref())?;
        self.access.admit(&asking).await?;
        if session.is_some() && action != "GetCallerIdentity" {
            return Err(s3_error!(AccessDenied, "Cannot call {action} with session credentials"));
        }
        let id = context.as_ref().map_or("", |context| context.id());
        let document = match action {
            "AssumeRole" => self.assume_role(&access_key, &identity, &asked, id).await?,
            "GetSessionToken" => {
                demand_known(&asked, &["DurationSeconds"])?;
                let seconds = SESSION_SECONDS.of(&asked)?;
                let wanted = WantedSession { name: "", seconds, policy: None };
                let made = self.credentials.new_session(&access_key, wanted).await?;
                answer(action, id, |xml| write_credentials(xml, &made))
            }
            _ => {
                demand_known(&asked, &[])?;
                answer(action, id, |xml| {
                    xml.text("Arn", &identity.arn);
                    xml.text("UserId", &identity.id);
                    xml.text("Account", ACCOUNT);
                })
            }
        };
        Ok(documented(document))
    }

    async fn assume_role(&self, access_key: &str, caller: &Identity, asked: &Query, id: &str) -> S3Result<Bytes> {
        demand_known(asked, &["RoleArn", "RoleSessionName", "DurationSeconds", "Policy"])?;
        let role = required(asked, "RoleArn")?;
        let assumed = assumed_name(role)?;
        let name = required(asked, "RoleSessionName")?;
        check_session_name(name)?;
        let seconds = ROLE_SECONDS.of(asked)?;
        let policy = one(asked, "Policy")?;
        if let Some(policy) = policy {
            check_policy(policy)?;
        }
        // Of the root `new_session` says why.
        if caller.user.as_deref().is_some_and(|user| user != assumed) {
            let message =
                format!("User: {} is not authorized to perform: sts:AssumeRole on resource: {role}", caller.arn);
            return Err(s3_error!(AccessDenied, "{message}"));
        }
        let made = self.credentials.new_session(access_key, WantedSession { name, seconds, policy }).await?;
        Ok(answer("AssumeRole", id, |xml| {
            write_credentials(xml, &made);
            xml.element("AssumedRoleUser", |xml| {
                xml.text("AssumedRoleId", &made.identity.id);
                xml.text("Arn", &made.identity.arn);
            });
            if let Some(policy) = policy {
                xml.shown("PackedPolicySize", (policy.len() * 100).div_ceil(POLICY_MAX_BYTES));
            }
        }))
    }
}

/// The parameters that are posted.
pub(super) async fn read_form(body: &mut Body, most_bytes: usize) -> S3Result<Query> {
    let body = body.store_all_limited(most_bytes).await;
    let body = body.map_err(|_| invalid("The request's body is too long, or was not sent to its end."))?;
    let asked = std::str::from_utf8(&body).ok().and_then(Query::parse);
    asked.ok_or_else(|| invalid("The request's body is not written as a form."))
}

pub(super) fn invalid_action(action: &str, version: &str) -> S3Error {
    let message = format!("Could not find operation {action} for version {version}");
    custom("InvalidAction", StatusCode::BAD_REQUEST, message)
}

impl Seconds {
    pub(super) fn of(&self, asked: &Query) -> S3Result<u64> {
        let Some(text) = one(asked, "DurationSeconds")? else { return Ok(self.unsaid) };
        let seconds = text.parse().ok().filter(|seconds| (self.least..=self.most).contains(seconds));
        seconds.ok_or_else(|| {
            let Self { least, most, .. } = self;
            invalid(format!("Value '{text}' at 'durationSeconds' must be a number from {least} to {most}"))
        })
    }
}

/// A signature that does not cover the body would let anybody on the way ask for something else.
fn demand_signed_body(request: &S3Request<Body>) -> S3Result<()> {
    let of_header = request.headers.contains_key(header::AUTHORIZATION);
    let hash = request.headers.get("x-amz-content-sha256").map(HeaderValue::as_bytes);
    let covered = hash.is_none_or(|hash| hash.len() == 64);
    if request.service.as_deref() != Some("sts") {
        let message = "Credential should be scoped to correct service: 'sts'.";
        return Err(s3_error!(SignatureDoesNotMatch, "{message}"));
    }
    if !of_header || !covered {
        let message = "The signature must stand in the Authorization header and cover the request's body.";
        return Err(s3_error!(SignatureDoesNotMatch, "{message}"));
    }
    Ok(())
}

/// The user's name in the address of a role.
pub(super) fn assumed_name(role: &str) -> S3Result<&str> {
    let who = role.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_prefix(ACCOUNT)?.strip_prefix(':'));
    let name = who.and_then(|who| who.strip_prefix("user/").or_else(|| who.strip_prefix("role/")));
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        invalid(format!(
            "{role} is invalid: there are no roles; want arn:aws:iam::{ACCOUNT}:user/NAME of the user who asks"
        ))
    })
}

pub(super) fn check_session_name(name: &str) -> S3Result<()> {
    let right = |char: char| char.is_ascii_alphanumeric() || "_+=,.@-".contains(char);
    if (2..=64).contains(&name.len()) && name.chars().all(right) {
        return Ok(());
    }
    Err(invalid(format!("Value '{name}' at 'roleSessionName' must have 2 to 64 characters of [\\w+=,.@-]")))
}

pub(super) fn check_policy(policy: &str) -> S3Result<()> {
    if policy.is_empty() || policy.len() > POLICY_MAX_BYTES {
        let message = format!("Value at 'policy' has {} bytes; it must have 1 to {POLICY_MAX_BYTES}", policy.len());
        return Err(invalid(message));
    }
    Policy::parse(PolicyKind::Session, policy.as_bytes()).map(drop).map_err(|error| {
        let message = format!("This policy cannot be honoured: {error}.");
        custom("MalformedPolicyDocument", StatusCode::BAD_REQUEST, message)
    })
}

/// Whoever is told nothing would believe that it was done.
pub(super) fn demand_known(asked: &Query, known: &[&str]) -> S3Result<()> {
    let unknown = asked.names().find(|name| !known.contains(name) && !["Action", "Version"].contains(name));
    unknown.map_or(Ok(()), |name| Err(invalid(format!("The parameter {name} is not supported"))))
}

pub(super) fn one<'a>(asked: &'a Query, name: &str) -> S3Result<Option<&'a str>> {
    asked.get(name).map_err(|_| invalid(format!("The parameter {name} is given twice")))
}

pub(super) fn required<'a>(asked: &'a Query, name: &str) -> S3Result<&'a str> {
    one(asked, name)?.ok_or_else(|| invalid(format!("The parameter {name} is missing")))
}

pub(super) fn invalid(message: impl Into<String>) -> S3Error {
    custom("ValidationError", StatusCode::BAD_REQUEST, message)
}

pub(super) fn answer(action: &str, request_id: &str, content: impl FnOnce(&mut Writer)) -> Bytes {
    Writer::document_of(STS_NAMESPACE, &format!("{action}Response"), |xml| {
        xml.element(&format!("{action}Result"), content);
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
    })
}

pub(super) fn write_credentials(xml: &mut Writer, made: &NewSession) {
    let seconds = i64::try_from(made.expires_ms / 1000).unwrap_or(i64::MAX);
    let expires = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(SECONDS).ok());
    xml.element("Credentials", |xml| {
        xml.text("AccessKeyId", &made.access_key);
        xml.text("SecretAccessKey", made.secret_key.expose());
        xml.text("SessionToken", &made.token);
        xml.text("Expiration", &expires.unwrap_or_default());
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn code<T: std::fmt::Debug>(outcome: S3Result<T>) -> String {
        outcome.unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn only_a_form_that_is_posted_to_the_root_is_for_the_token_service() {
        let asked = |method: Method, path: &str, content_type: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            is_for_token_service(&method, &path.parse().unwrap(), &headers)
        };
        assert!(asked(Method::POST, "/", "application/x-www-form-urlencoded; charset=utf-8"));
        assert!(!asked(Method::GET, "/", "application/x-www-form-urlencoded"));
        assert!(!asked(Method::POST, "/bucket", "application/x-www-form-urlencoded"));
        assert!(!asked(Method::POST, "/", "multipart/form-data; boundary=x"));
        assert!(!is_for_token_service(&Method::POST, &Uri::from_static("/"), &HeaderMap::new()));
    }

    #[test]
    fn roles_are_users_of_the_one_account() {
        assert_eq!(assumed_name("arn:aws:iam::000000000000:user/alice").unwrap(), "alice");
        assert_eq!(assumed_name("arn:aws:iam::000000000000:role/alice").unwrap(), "alice");
        for other in [
            "",
            "alice",
            "arn:aws:iam::000000000000:user/",
            "arn:aws:iam::000000000000:group/alice",
            "arn:aws:iam::000000000001:user/alice",
            "arn:aws:iam:::user/alice",
            "arn:aws:sts::000000000000:assumed-role/alice/x",
        ] {
            assert_eq!(code(assumed_name(other)), "ValidationError", "{other}");
        }
    }

    #[test]
    fn a_duration_is_within_the_bounds_of_aws() {
        let of = |text: &str| ROLE_SECONDS.of(&Query::parse(text).unwrap());
        assert_eq!(of("").unwrap(), 3600);
        assert_eq!((of("DurationSeconds=900").unwrap(), of("DurationSeconds=43200").unwrap()), (900, 43_200));
        for wrong in ["899", "43201", "", "-900", "1e3", "99999999999999999999", "900&DurationSeconds=900"] {
            assert_eq!(code(of(&format!("DurationSeconds={wrong}"))), "ValidationError", "{wrong}");
        }
    }

    #[test]
    fn bnd_1_names_and_policies_are_bounded() {
        for right in ["ab", &"x".repeat(64), "a_+=,.@-Z9"] {
            check_session_name(right).unwrap();
        }
        for wrong in ["", "a", &"x".repeat(65), "a b", "a/b", "aé", "a:b"] {
            assert_eq!(code(check_session_name(wrong)), "ValidationError", "{wrong}");
        }
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
        let padded = |bytes: usize| format!("{policy}{}", " ".repeat(bytes - policy.len()));
        check_policy(&padded(POLICY_MAX_BYTES)).unwrap();
        assert_eq!(code(check_policy(&padded(POLICY_MAX_BYTES + 1))), "ValidationError");
        assert_eq!(code(check_policy("")), "ValidationError");
        assert_eq!(code(check_policy("{}")), "MalformedPolicyDocument");
        assert_eq!(code(check_policy(&policy.replace("s3:*", "sts:*"))), "MalformedPolicyDocument");
    }
}
