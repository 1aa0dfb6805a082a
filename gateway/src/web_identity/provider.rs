//! One provider: where its keys are, what was fetched of them, and for how long that is believed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;

use super::{
    error::WebIdentityError,
    fetch::Fetch,
    keys::{KeySet, Unverified},
    token::Token,
};

/// Of both documents together, and of waiting for somebody else who fetches them.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two fetches, whoever asks for what: for keys that there are not, or while the provider is away.
const PAUSE: Duration = Duration::from_secs(2);
/// Keys are fetched anew in so many parts of the time for which they are believed.
const FRESH_PARTS: u32 = 3;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

pub(super) struct Provider {
    issuer: String,
    fetch: Fetch,
    /// How long keys are believed, counted from before they were fetched.
    keys_age: Duration,
    kept: Mutex<Kept>,
    /// Told whenever a fetch has ended.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When a fetch began last, and whether it is under way.
    tried: Option<Instant>,
    fetching: bool,
    /// Why it failed, if it did.
    failure: Option<String>,
}

/// A fetch under way.
struct Fetching(Arc<Provider>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.kept.lock().fetching = false;
        self.0.ended.send_replace(());
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    pub(super) fn new(issuer: &str, ca_pem: Option<&str>, keys_age: Duration) -> Result<Arc<Self>, String> {
        let fetch = Fetch::of(issuer, ca_pem)?;
        let (issuer, ended) = (issuer.to_owned(), watch::Sender::new(()));
        Ok(Arc::new(Self { issuer, fetch, keys_age, kept: Mutex::default(), ended }))
    }

    /// Whether one of the provider's keys signed this. Keys that are old, or that do not have the one that is meant,
    /// are fetched first, if they were not fetched just now.
    pub(super) async fn verify(self: &Arc<Self>, token: &Token<'_>) -> Result<(), WebIdentityError> {
        let id = token.key_id.as_deref();
        let keys = self.keys(|keys| keys.may_have(id, token.algorithm)).await?;
        keys.verify(id, token.algorithm, token.signed, &token.signature).map_err(|why| {
            WebIdentityError::Invalid(match why {
                Unverified::NoSuchKey => "its provider has no key of its kid for its alg".to_owned(),
                Unverified::Wrong => "its signature is wrong".to_owned(),
            })
        })
    }

    async fn keys(self: &Arc<Self>, has: impl Fn(&KeySet) -> bool) -> Result<Arc<KeySet>, WebIdentityError> {
        let mut ended = self.ended.subscribe();
        let waits = {
            let mut kept = self.kept.lock();
            let found = kept.keys.clone().filter(|(keys, since)| since.elapsed() < self.keys_age && has(keys));
            if found.as_ref().is_none_or(|(_, since)| since.elapsed() >= self.keys_age / FRESH_PARTS) {
                self.fetch_if_due(&mut kept);
            }
            match found {
                // Whoever can be answered does not wait for newer ones.
                Some((keys, _)) => return Ok(keys),
                None => kept.fetching,
            }
        };
        if waits {
            let _ = tokio::time::timeout(DEADLINE, ended.changed()).await;
        }
        let kept = self.kept.lock();
        match &kept.keys {
            Some((keys, since)) if since.elapsed() < self.keys_age => Ok(keys.clone()),
            _ => Err(WebIdentityError::Away(kept.failure.clone().unwrap_or_else(|| no_answer(&self.issuer)))),
        }
    }

    /// In a task of its own: whoever asked may go away, and the others would wait for nothing.
    fn fetch_if_due(self: &Arc<Self>, kept: &mut Kept) {
        if kept.fetching || kept.tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
            return;
        }
        (kept.fetching, kept.tried) = (true, Some(Instant::now()));
        let fetching = Fetching(self.clone());
        tokio::spawn(async move { fetching.0.refresh().await });
    }

    async fn refresh(&self) {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(DEADLINE, self.fetched()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(no_answer(&self.issuer)));
        let mut kept = self.kept.lock();
        match outcome {
            Ok(keys) => {
                kept.keys = Some((Arc::new(keys), begun));
                kept.failure = None;
            }
            Err(why) => {
                tracing::warn!(issuer = self.issuer, why, "the keys of a provider of identities cannot be fetched");
                kept.failure = Some(why);
            }
        }
    }

    async fn fetched(&self) -> Result<KeySet, String> {
        let place = format!("{}{WELL_KNOWN}", self.issuer.trim_end_matches('/'));
        let document = self.fetch.document(&place).await?;
        let read: Discovery = serde_json::from_slice(&document).map_err(|error| format!("{place}: {error}"))?;
        // Else it would be another's.
        if read.issuer != self.issuer {
            let named: String = read.issuer.chars().take(255).collect();
            return Err(format!("{place}: it is the document of the issuer {named:?}, not of {:?}", self.issuer));
        }
        let document = self.fetch.document(&read.jwks_uri).await?;
        KeySet::read(&document).map_err(|why| format!("{}: {why}", read.jwks_uri))
    }
}

fn no_answer(issuer: &str) -> String {
    format!("{issuer}: no answer within {} s", DEADLINE.as_secs())
}
