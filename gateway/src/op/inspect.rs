//! What several operations ask: the metadata of one version.

use cairn_schema::{
    MetaError,
    record::Version,
    verbs::{Located, RangeRequest, VersionSelector},
};
use http::StatusCode;
use s3s::{
    S3Result,
    dto::{Range, Timestamp},
    s3_error,
};

use super::{
    Api,
    conditions::ReadConditions,
    names::{check_key, part_number, selector},
};
use crate::error::{custom, from_meta, from_store};

/// The bytes that a GET or HEAD wants.
pub(super) fn wanted_range(range: Option<Range>, part: Option<i32>) -> S3Result<RangeRequest> {
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (None, Some(part)) => Ok(RangeRequest::Part(part_number(part)?)),
        (Some(Range::Int { first, last: Some(last) }), None) => Ok(RangeRequest::Inclusive(first, last)),
        (Some(Range::Int { first, last: None }), None) => Ok(RangeRequest::From(first)),
        (Some(Range::Suffix { length }), None) => Ok(RangeRequest::Suffix(length)),
        (None, None) => Ok(RangeRequest::All),
    }
}

pub(super) fn read_conditions(
    if_match: Option<s3s::dto::ETagCondition>,
    if_none_match: Option<s3s::dto::ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> ReadConditions {
    ReadConditions { if_match, if_none_match, if_modified_since, if_unmodified_since }
}

impl Api {
    /// One version, without its parts.
    pub(super) async fn inspect(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Version> {
        check_key(key)?;
        let located = self.meta().locate(bucket, key, selector(version)?, RangeRequest::Nothing).await;
        Ok(located.map_err(from_meta)?.version)
    }

    /// Finds the bytes wanted and decides the conditions, which come before a range that cannot be satisfied.
    pub(super) async fn locate_if(
        &self,
        bucket: &str,
        key: &str,
        version: VersionSelector,
        wanted: RangeRequest,
        conditions: &ReadConditions,
    ) -> S3Result<Located> {
        check_key(key)?;
        match self.store.locate(bucket, key, version, wanted).await {
            Ok(located) => {
                conditions.check(&located.version)?;
                Ok(located)
            }
            Err(cairn_actors::StoreError::Meta(
                error @ (MetaError::InvalidRange { .. } | MetaError::InvalidPart { .. }),
            )) => {
                if !conditions.is_empty() {
                    let whole = self.store.locate(bucket, key, version, RangeRequest::Nothing).await;
                    conditions.check(&whole.map_err(from_store)?.version)?;
                }
                if matches!(wanted, RangeRequest::Part(_)) {
                    return Err(custom(
                        "InvalidPartNumber",
                        StatusCode::RANGE_NOT_SATISFIABLE,
                        "The requested partnumber is not satisfiable",
                    ));
                }
                Err(from_meta(error))
            }
            Err(error) => Err(from_store(error)),
        }
    }
}
