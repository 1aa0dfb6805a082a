//! One question to the admin API of a node, or one change.

use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    admin::client::{self, ClientError},
    failure::Failure,
    notice,
};

/// A page of the admin API, and what a refusal by it is called.
pub(super) struct Page {
    pub path: &'static str,
    pub refused: fn(String) -> Failure,
}

impl Page {
    /// The page as it is or, with a change to it, as it is after that.
    pub(super) async fn ask(&self, admin: &str, change: Option<Value>) -> Result<Bytes, Failure> {
        let limit = client::DEADLINE;
        let tell = || notice::on_terminal(&format!("waiting for the admin API at {admin}, for at most {limit:?}"));
        let answer = match change {
            None => notice::while_waiting(client::get(admin, self.path), tell).await,
            Some(change) => notice::while_waiting(client::post(admin, self.path, &change), tell).await,
        };
        match answer {
            Err(ClientError::Status(place, status, body)) => Err(self.refused(place, status, body)),
            answer => Ok(answer?),
        }
    }

    /// The page with a query.
    pub(super) async fn look(&self, admin: &str, query: &str) -> Result<Bytes, Failure> {
        let (limit, path) = (client::DEADLINE, format!("{}?{query}", self.path));
        let tell = || notice::on_terminal(&format!("waiting for the admin API at {admin}, for at most {limit:?}"));
        match notice::while_waiting(client::get(admin, &path), tell).await {
            Err(ClientError::Status(place, status, body)) => Err(self.refused(place, status, body)),
            answer => Ok(answer?),
        }
    }

    /// The node's own words, if it has any.
    fn refused(&self, place: String, status: StatusCode, body: String) -> Failure {
        let said = serde_json::from_str::<Value>(&body).ok();
        match said.as_ref().and_then(|said| said["error"].as_str()) {
            Some(why) => (self.refused)(why.to_owned()),
            None => ClientError::Status(place, status, body).into(),
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(admin: &str, json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| ClientError::not_json(admin, &error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_refuses_is_heard() {
        let place = || "127.0.0.1:9001".to_owned();
        for (refused, stays) in [
            (Failure::PolicyRefused as fn(String) -> Failure, "stays as it is"),
            (Failure::RatesRefused, "stay as they are"),
        ] {
            let page = Page { path: "/v1/page", refused };
            let said = page.refused(place(), StatusCode::BAD_REQUEST, r#"{"error":"policy.scheme: no"}"#.to_owned());
            assert!(said.to_string().contains("policy.scheme: no") && said.to_string().contains(stays), "{said}");
            let unknown = page.refused(place(), StatusCode::NOT_FOUND, "<html>".to_owned());
            assert!(unknown.to_string().contains("answered 404"), "{unknown}");
        }
    }
}
