//! Temporary credentials for those whom a provider of identities knows: `AssumeRoleWithWebIdentity`, which nobody
//! signs. The token that comes with it is what counts.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use std::time::Duration;

use http::StatusCode;
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{
    Api,
    token_service::{
        API_VERSION, ROLE_SECONDS, Seconds, WITH_WEB_IDENTITY, answer, assumed_name, check_policy, check_session_name,
        demand_known, invalid, invalid_action, one, read_form, required, write_credentials,
    },
};
use crate::{
    access::{Asking, WantedSession},
    answer::documented,
    context::RequestContext,
    error::custom,
    query::Query,
    session::POLICY_MAX_BYTES,
    web_identity::{Role, TOKEN_MAX_BYTES, WebIdentityError},
};

/// The token, a policy of which every byte may be encoded as three, and the rest.
const BODY_MAX_BYTES: usize = TOKEN_MAX_BYTES + 3 * POLICY_MAX_BYTES + 4096;
/// Nobody who has a token takes longer to send it, and only so many are heard at once.
const BODY_TIME: Duration = Duration::from_secs(10);
const PARAMETERS: [&str; 5] = ["RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy"];

impl Api {
    /// A request to the token service that nobody signed.
    pub(super) async fn web_tokens(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let Some(roles) = &self.roles else { return Err(s3_error!(MissingSecurityHeader)) };
        let context = RequestContext::of(&request.extensions).cloned();
        let Some(_exchange) = roles.enter(context.as_ref().and_then(RequestContext::peer)) else {
            return Err(s3_error!(SlowDown, "Please reduce your request rate."));
        };
        let heads = (&request.headers, &request.uri);
        self.access.admit(&Asking::new(WITH_WEB_IDENTITY, (None, None), None, heads, context.as_ref())?).await?;
        let form = tokio::time::timeout(BODY_TIME, read_form(&mut request.input, BODY_MAX_BYTES)).await;
        let asked = form.map_err(|_| s3_error!(RequestTimeout))??;
        match one(&asked, "Action")? {
            Some(WITH_WEB_IDENTITY) => self.assume_with_web_identity(&asked, context.as_ref()).await,
            _ => Err(s3_error!(MissingSecurityHeader)),
        }
    }

    pub(super) async fn assume_with_web_identity(
        &self,
        asked: &Query,
        context: Option<&RequestContext>,
    ) -> S3Result<S3Response<Body>> {
        let version = one(asked, "Version")?.unwrap_or_default();
        if version != API_VERSION {
            return Err(invalid_action(WITH_WEB_IDENTITY, version));
        }
        if let Some(context) = context {
            context.set_operation(WITH_WEB_IDENTITY);
        }
        demand_known(asked, &PARAMETERS)?;
        let name = required(asked, "RoleSessionName")?;
        check_session_name(name)?;
        let policy = one(asked, "Policy")?;
        policy.map(check_policy).transpose()?;
        let token = required(asked, "WebIdentityToken")?;
        let role_name = assumed_name(required(asked, "RoleArn")?)?;
        let role = self.roles.as_ref().and_then(|roles| roles.role(role_name)).ok_or_else(not_authorized)?;
        let seconds = seconds(asked, role)?;
        let holder = role.holder(token, self.meta().now_ms()).await.map_err(refused)?;
        let (subject, audience) = (holder.subject.clone(), holder.audience.clone());
        let wanted = WantedSession { name, seconds, policy };
        let made = self.credentials.role_session(role_name, holder, wanted).await?;
        if let Some(context) = context {
            context.set_caller(made.identity.arn.clone());
        }
        let id = context.map_or("", |context| context.id());
        Ok(documented(answer(WITH_WEB_IDENTITY, id, |xml| {
            xml.text("SubjectFromWebIdentityToken", &subject);
            xml.text("Audience", &audience);
            xml.element("AssumedRoleUser", |xml| {
                xml.text("Arn", &made.identity.arn);
                xml.text("AssumedRoleId", &made.identity.id);
            });
            write_credentials(xml, &made);
            xml.text("Provider", role.issuer());
            if let Some(policy) = policy {
                xml.shown("PackedPolicySize", (policy.len() * 100).div_ceil(POLICY_MAX_BYTES));
            }
        })))
    }
}

fn seconds(asked: &Query, role: &Role) -> S3Result<u64> {
    let longest = role.longest_seconds();
    let seconds = Seconds { unsaid: ROLE_SECONDS.unsaid.min(longest), ..ROLE_SECONDS }.of(asked)?;
    if seconds > longest {
        return Err(invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
    }
    Ok(seconds)
}

fn not_authorized() -> S3Error {
    s3_error!(AccessDenied, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
}

/// What stands in the way of a provider is for its operator, who finds it in the log: whoever asks is anybody.
fn refused(error: WebIdentityError) -> S3Error {
    let client = |code, message: String| custom(code, StatusCode::BAD_REQUEST, message);
    match error {
        WebIdentityError::Invalid(why) => {
            client("InvalidIdentityToken", format!("The web identity token is not valid: {why}."))
        }
        WebIdentityError::Expired => client("ExpiredTokenException", "The web identity token has expired.".to_owned()),
        WebIdentityError::Away(why) => {
            tracing::debug!(why, "a web identity cannot be verified");
            let message = "The keys of the identity provider cannot be fetched; please try again.";
            client("IDPCommunicationError", message.to_owned())
        }
        WebIdentityError::Rejected(why) => custom("IDPRejectedClaim", StatusCode::FORBIDDEN, format!("{why}.")),
    }
}
