//! What several operations ask: the metadata of one version.

use cairn_actors::StoreError;
use cairn_schema::{
    MetaError,
    record::Version,
    verbs::{Located, RangeRequest, VersionSelector},
};
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3Result, s3_error};

use super::{
    Api,
    conditions::ReadConditions,
    names::{check_key, part_number, selector},
    range,
};
use crate::error::{custom, from_meta, from_store};

/// The part or the range that a GET or HEAD wants; None for the whole object.
pub(super) fn wanted_range(headers: &HeaderMap, part: Option<i32>) -> S3Result<Option<RangeRequest>> {
    match (range::wanted(headers), part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (None, Some(part)) => Ok(Some(RangeRequest::Part(part_number(part)?))),
        (wanted, None) => Ok(wanted),
    }
}

/// What was found of an object.
pub(super) struct Found {
    pub(super) located: Located,
    /// What of it is told: None if it is the whole object, as also when the range wanted did not apply.
    pub(super) part: Option<RangeRequest>,
}

impl Api {
    /// One version, without its parts.
    pub(super) async fn inspect(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Version> {
        check_key(key)?;
        let located = self.meta().locate(bucket, key, selector(version)?, RangeRequest::Nothing).await;
        Ok(located.map_err(from_meta)?.version)
    }

    /// Finds the bytes wanted and decides the conditions that the headers name, which come before a range that cannot
    /// be satisfied. `whole` is what is asked of the store for a whole object.
    pub(super) async fn locate_if(
        &self,
        (bucket, key): (&str, &str),
        version: VersionSelector,
        wanted: Option<RangeRequest>,
        whole: RangeRequest,
        headers: &HeaderMap,
    ) -> S3Result<Found> {
        check_key(key)?;
        let conditions = ReadConditions::of(headers);
        let locate = async |range| self.store.locate(bucket, key, version, range).await;
        if let Some(wanted) = wanted {
            let is_part = matches!(wanted, RangeRequest::Part(_));
            let (located, refusal) = match locate(wanted).await {
                Ok(located) => (located, None),
                Err(StoreError::Meta(error @ (MetaError::InvalidRange { .. } | MetaError::InvalidPart { .. }))) => {
                    (locate(RangeRequest::Nothing).await.map_err(from_store)?, Some(error))
                }
                Err(error) => return Err(from_store(error)),
            };
            conditions.check(&located.version)?;
            let applies = is_part || range::applies(headers, wanted, &located.version);
            match refusal {
                None if applies => return Ok(Found { located, part: Some(wanted) }),
                Some(_) if is_part => return Err(invalid_part_number()),
                Some(error) if applies => return Err(from_meta(error)),
                _ => {}
            }
        }
        let located = locate(whole).await.map_err(from_store)?;
        conditions.check(&located.version)?;
        Ok(Found { located, part: None })
    }
}

fn invalid_part_number() -> S3Error {
    custom("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, "The requested partnumber is not satisfiable")
}
