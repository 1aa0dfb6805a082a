//! `cairn admin kms`: the keys by which objects are encrypted, through the admin API of any node.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ask::{self, Page},
    setting_args::{KmsArgs, KmsCommand},
};
use crate::{failure::Failure, notice};

const PAGE: Page = Page { path: "/v1/kms", refused: Failure::KmsRefused };

/// `/v1/kms`, read leniently, so that it works across versions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KmsView {
    seen_by: String,
    configured: bool,
    keys: Option<KeysView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KeysView {
    backend: String,
    address: Option<String>,
    default_key: String,
    keys: Vec<KeyView>,
    reachable: bool,
    problem: Option<String>,
    answered_seconds_ago: Option<u64>,
    failed_seconds_ago: Option<u64>,
    last_failure: Option<String>,
    data_keys_remembered: u64,
    data_key_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KeyView {
    name: String,
    versions: Vec<u32>,
    wraps: u32,
}

impl KmsView {
    fn in_words(&self) -> String {
        // Writing to a String cannot fail, so results are dropped throughout.
        let mut text = String::new();
        let Some(keys) = self.keys.as_ref().filter(|_| self.configured) else {
            let _ = writeln!(text, "{} has no keys: set s3.encryption to have objects encrypted", self.seen_by);
            return text;
        };
        let place = keys.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
        let _ = writeln!(text, "keys of {}: {}{place}, default key {}", self.seen_by, keys.backend, keys.default_key);
        for KeyView { name, versions, wraps } in &keys.keys {
            let listed: Vec<String> = versions.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  {name:<20}versions {}; {wraps} wraps", listed.join(", "));
        }
        if let Some(problem) = &keys.problem {
            let _ = writeln!(text, "  NOT USABLE NOW: {problem}");
        } else if !keys.reachable {
            let _ = writeln!(text, "  NOT USABLE NOW");
        }
        if let Some(ago) = keys.answered_seconds_ago {
            let _ = writeln!(text, "  answered {ago} s ago");
        }
        if let (Some(ago), Some(why)) = (keys.failed_seconds_ago, &keys.last_failure) {
            let _ = writeln!(text, "  last failed {ago} s ago: {why}");
        }
        if let Some(seconds) = keys.data_key_seconds {
            let _ = writeln!(text, "  {} data keys remembered, for {seconds} s each", keys.data_keys_remembered);
        }
        text
    }
}

/// What orders have come to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RewrapView {
    looked_at: u64,
    rewrapped: u64,
    failed: u64,
    first_failure: Option<String>,
    next: Option<Value>,
}

impl RewrapView {
    fn add(&mut self, step: Self) {
        self.looked_at += step.looked_at;
        self.rewrapped += step.rewrapped;
        self.failed += step.failed;
        self.first_failure = self.first_failure.take().or(step.first_failure);
        self.next = step.next;
    }

    fn in_words(&self) -> String {
        let Self { looked_at, rewrapped, failed, .. } = self;
        format!(
            "looked at {looked_at} encrypted versions and uploads, wrapped the keys of {rewrapped} again, {failed} failed\n"
        )
    }
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &KmsArgs) -> Result<String, Failure> {
    let api = &args.api;
    let bucket = match &args.command {
        KmsCommand::Status => {
            let page = PAGE.ask(&api.admin, None).await?;
            return match api.json {
                true => Ok(String::from_utf8_lossy(&page).into_owned()),
                false => Ok(ask::read::<KmsView>(&api.admin, &page)?.in_words()),
            };
        }
        KmsCommand::Rewrap { bucket } => bucket,
    };
    let mut all = RewrapView::default();
    loop {
        let order = json!({ "bucket": bucket, "next": all.next });
        let page = PAGE.ask(&api.admin, Some(order)).await?;
        all.add(ask::read(&api.admin, &page)?);
        if all.next.is_none() {
            break;
        }
        notice::on_terminal(&format!("so far: {}", all.in_words().trim_end()));
    }
    if let Some(why) = all.first_failure.as_ref().filter(|_| all.failed > 0) {
        let all = all.in_words();
        return Err(Failure::KmsRefused(format!("{}; the first of them: {why}", all.trim_end())));
    }
    if api.json {
        let RewrapView { looked_at, rewrapped, failed, .. } = all;
        return Ok(format!("{}\n", json!({ "looked_at": looked_at, "rewrapped": rewrapped, "failed": failed })));
    }
    Ok(all.in_words())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_status_says_what_wraps_and_what_is_wrong() {
        let page = r#"{"seen_by":"n1","configured":true,"keys":{"backend":"vault","address":"https://v:8200",
            "default_key":"cairn","keys":[{"name":"cairn","versions":[1,2],"wraps":2}],"reachable":false,"problem":"away",
            "answered_seconds_ago":9,"failed_seconds_ago":3,"last_failure":"no answer","data_keys_remembered":4,
            "data_key_seconds":300}}"#;
        let words = serde_json::from_str::<KmsView>(page).unwrap().in_words();
        for line in [
            "keys of n1: vault at https://v:8200, default key cairn\n",
            "versions 1, 2; 2 wraps\n",
            "NOT USABLE NOW: away\n",
            "last failed 3 s ago: no answer\n",
            "4 data keys remembered, for 300 s each\n",
        ] {
            assert!(words.contains(line), "{words}");
        }
        let none = KmsView { seen_by: "n1".into(), ..KmsView::default() }.in_words();
        assert!(none.contains("n1 has no keys"), "{none}");
    }
}
