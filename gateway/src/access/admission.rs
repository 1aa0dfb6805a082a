//! How many requests of a user and to a bucket are answered: what is known of both meets the turnstile.

use std::time::Instant;

use cairn_schema::record::RequestLimits;
use prometheus::IntCounterVec;
use s3s::{S3Result, s3_error};

use super::{bucket_rules::BucketRules, callers::Caller};
use crate::{
    context::RequestContext,
    turnstile::{Lane, Turnstile},
};

/// Lets requests in, and counts those that it does not. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission {
    turnstile: Turnstile,
    /// By what they were too many for.
    refused: IntCounterVec,
}

impl Admission {
    /// `most` requests may be under way in all.
    pub(crate) fn new(most: usize, refused: IntCounterVec) -> Self {
        Self { turnstile: Turnstile::new(most), refused }
    }

    /// Lets a request in, for as long as its context lives.
    ///
    /// # Errors
    /// SlowDown.
    pub(super) fn enter(
        &self,
        caller: &Caller,
        bucket: Option<(&str, &BucketRules)>,
        context: &RequestContext,
    ) -> S3Result<()> {
        let user = match caller {
            Caller::Anonymous => (Lane::Anonymous, RequestLimits::default()),
            Caller::Root => (Lane::Root, RequestLimits::default()),
            Caller::User(user) | Caller::Session(user, _) => (Lane::User(user.name().into()), user.limits()),
            // No user has a name with a slash.
            Caller::Role(holder) => (Lane::User(holder.opened.holder().into()), RequestLimits::default()),
        };
        let bucket = bucket.filter(|(_, rules)| !rules.limits.is_unset());
        let bucket = bucket.map(|(name, rules)| (Lane::Bucket(name.into()), rules.limits));
        let pass = self.turnstile.enter(user, bucket, Instant::now()).map_err(|too_many| {
            self.refused.with_label_values(&[too_many.name()]).inc();
            s3_error!(SlowDown, "Please reduce your request rate.")
        })?;
        context.keep_pass(pass);
        Ok(())
    }
}
