//! Limits of requests, as operators change and see them.

use cairn_schema::record::{LimitsChange, RequestLimits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::desk::said;

/// What is left out stays; null is without bound.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsOrder {
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Option<u32>>,
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<Option<u32>>,
}

impl From<LimitsOrder> for LimitsChange {
    fn from(order: LimitsOrder) -> Self {
        Self { per_second: order.per_second, concurrent: order.concurrent }
    }
}

pub(super) fn shown(limits: RequestLimits) -> Value {
    json!({"per_second": limits.per_second, "concurrent": limits.concurrent})
}
