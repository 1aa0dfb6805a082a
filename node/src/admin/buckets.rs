//! `/v1/buckets`: what buckets hold, and what they may hold. Asked by POST and only from this machine, as `/v1/access`.

use cairn_schema::{
    Meta, MetaError,
    record::{Bucket, QuotaChange, Versioning},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    desk::{self, Desk, Refusal, said},
    limits::{self, LimitsOrder},
};
use crate::config::Size;

/// Of one answer; the next ones are asked for by the name of the last.
const PAGE: usize = 100;

/// What is to be done or told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum BucketOrder {
    Buckets {
        after: Option<String>,
    },
    Bucket {
        name: String,
    },
    /// What is left out stays; null is without bound.
    Quota {
        name: String,
        #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
        bytes: Option<Option<Size>>,
        #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
        objects: Option<Option<u64>>,
    },
    Limit {
        name: String,
        limits: LimitsOrder,
    },
}

impl From<MetaError> for Refusal {
    fn from(error: MetaError) -> Self {
        let status = match &error {
            MetaError::NoSuchBucket(_) => StatusCode::NOT_FOUND,
            MetaError::Invalid { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl Desk<'_> {
    pub(super) async fn buckets(&self, body: &[u8]) -> Result<Value, Refusal> {
        let order: BucketOrder = desk::change(body)?;
        Ok(obey(self.access.meta(), order).await?)
    }
}

async fn obey(meta: &Meta, order: BucketOrder) -> Result<Value, MetaError> {
    match order {
        BucketOrder::Buckets { after } => {
            let found = meta.list_buckets("", after.as_deref(), PAGE).await?;
            let next = found.last().filter(|_| found.len() == PAGE).map(|bucket| bucket.name.clone());
            let mut buckets = Vec::with_capacity(found.len());
            for bucket in found {
                match shown(meta, bucket).await {
                    Err(MetaError::NoSuchBucket(_)) => {}
                    bucket => buckets.push(bucket?),
                }
            }
            Ok(json!({"buckets": buckets, "next": next}))
        }
        BucketOrder::Bucket { name } => shown(meta, meta.bucket(&name).await?).await,
        BucketOrder::Limit { name, limits } => {
            meta.set_request_limits(&name, limits).await?;
            shown(meta, meta.bucket(&name).await?).await
        }
        BucketOrder::Quota { name, bytes, objects } => {
            let change = QuotaChange { bytes: bytes.map(|bytes| bytes.map(|size| size.0)), objects };
            meta.set_quota(&name, change).await?;
            shown(meta, meta.bucket(&name).await?).await
        }
    }
}

async fn shown(meta: &Meta, bucket: Bucket) -> Result<Value, MetaError> {
    let usage = meta.usage(&bucket.name).await?;
    let quota = bucket.quota.map(|kept| kept.quota).unwrap_or_default();
    let versioning = match bucket.versioning {
        Versioning::Off => "off",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    };
    Ok(json!({
        "name": bucket.name, "created_ms": bucket.created_ms, "versioning": versioning,
        "object_lock": bucket.object_lock.is_some(),
        "objects": usage.objects, "bytes": usage.bytes,
        "quota": {"objects": quota.objects, "bytes": quota.bytes}, "limits": limits::shown(bucket.limits),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn order(text: &str) -> BucketOrder {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn a_quota_is_changed_field_by_field() {
        let meta = Meta::in_memory();
        let missing = obey(&meta, order(r#"{"do":"bucket","name":"b"}"#)).await.unwrap_err();
        assert_eq!(Refusal::from(missing).status, StatusCode::NOT_FOUND);
        let bucket = Bucket { owner: "root".into(), ..Bucket::new("b", 1) };
        meta.create_bucket(bucket).await.unwrap();
        for (change, objects, bytes) in [
            (r#""objects":7"#, json!(7), Value::Null),
            (r#""bytes":"1 GiB""#, json!(7), json!(1 << 30)),
            (r#""objects":null,"bytes":5"#, Value::Null, json!(5)),
            (r#""bytes":null"#, Value::Null, Value::Null),
        ] {
            let text = format!(r#"{{"do":"quota","name":"b",{change}}}"#);
            let after = obey(&meta, order(&text)).await.unwrap();
            assert_eq!(after["quota"], json!({"objects": objects, "bytes": bytes}), "{change}");
        }
        let limited = r#"{"do":"limit","name":"b","limits":{"concurrent":5}}"#;
        let limited = obey(&meta, order(limited)).await.unwrap();
        assert_eq!(limited["limits"], json!({"per_second": null, "concurrent": 5}));
        let listed = obey(&meta, order(r#"{"do":"buckets"}"#)).await.unwrap();
        assert_eq!((&listed["buckets"][0]["name"], &listed["next"]), (&json!("b"), &Value::Null));
        for wrong in [r#"{"do":"quota","name":"b","bites":1}"#, r#"{"do":"quota","name":"b","objects":-1}"#] {
            assert!(serde_json::from_str::<BucketOrder>(wrong).is_err(), "{wrong}");
        }
    }
}
