//! The pages of the admin API that operators change things by.

use std::net::SocketAddr;

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::{
    access,
    desk::{Desk, MAX_CHANGE_BYTES, Refusal},
    jobs,
};

/// What holds in the whole cluster, and can be changed while it runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    Policy,
    Rates,
    Maintenance,
    Kms,
    Jobs,
    Access,
    Buckets,
    Events,
}

impl Setting {
    const ALL: [Self; 8] = [
        Self::Policy,
        Self::Rates,
        Self::Maintenance,
        Self::Kms,
        Self::Jobs,
        Self::Access,
        Self::Buckets,
        Self::Events,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Policy => "/v1/policy",
            Self::Rates => "/v1/rates",
            Self::Maintenance => "/v1/maintenance",
            Self::Kms => "/v1/kms",
            Self::Jobs => "/v1/jobs",
            Self::Access => "/v1/access",
            Self::Buckets => "/v1/buckets",
            Self::Events => "/v1/events",
        }
    }

    pub(super) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.path() == path)
    }

    /// Of what is sent to it.
    pub(super) fn max_bytes(self) -> usize {
        match self {
            Self::Policy | Self::Rates | Self::Maintenance | Self::Buckets | Self::Events => MAX_CHANGE_BYTES,
            Self::Jobs => jobs::MAX_ORDER_BYTES,
            // It has a key of an object, each byte of which may be written as six.
            Self::Kms => 2 * MAX_CHANGE_BYTES + 1024 * 6,
            Self::Access => access::MAX_ORDER_BYTES,
        }
    }

    /// What it is now.
    pub(super) async fn shown(self, desk: &Desk<'_>) -> Result<Value, Refusal> {
        match self {
            Self::Policy => value(desk.policy()?),
            Self::Rates => value(desk.rates()?),
            Self::Access | Self::Buckets | Self::Events => {
                Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only POST, from this machine"))
            }
            Self::Maintenance => value(desk.maintenance()?),
            Self::Kms => value(desk.kms().await?),
            Self::Jobs => value(desk.jobs().await?),
        }
    }

    /// Does what an operator orders.
    pub(super) async fn order(self, desk: &Desk<'_>, body: &[u8]) -> Result<Value, Refusal> {
        match self {
            Self::Policy => value(desk.change_policy(body).await?),
            Self::Rates => value(desk.change_rates(body).await?),
            Self::Maintenance => value(desk.change_maintenance(body).await?),
            Self::Kms => value(desk.rewrap(body).await?),
            Self::Jobs => value(desk.change_jobs(body).await?),
            Self::Access => value(desk.access(body).await?),
            Self::Buckets => value(desk.buckets(body).await?),
            Self::Events => value(desk.events(body).await?),
        }
    }
}

fn value(shown: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(shown).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// What the audit log is told of an order. Orders have no secrets in them: these are made by the node, and shown once.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    source: String,
    page: &'static str,
    order: Value,
    /// It was done; or not, and why, or that this is not known.
    done: bool,
    refused: Option<&'a str>,
}

impl<'a> Told<'a> {
    pub(super) fn of(setting: Setting, peer: SocketAddr, body: &[u8], refusal: Option<&'a Refusal>) -> Self {
        Self {
            source: peer.ip().to_string(),
            page: setting.path(),
            order: serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into()),
            done: refusal.is_none(),
            refused: refusal.map(|refusal| refusal.why.as_str()),
        }
    }
}
