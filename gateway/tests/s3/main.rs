//! The S3 face over a real store, as clients see it on the wire.

#![allow(clippy::unwrap_used)]

mod access;
mod answers;
mod audit;
mod bad_input;
mod bucket_settings;
mod buckets;
mod conditions;
mod copies;
mod documents;
mod encryption;
mod errors;
mod events;
mod exchanges;
mod forms;
mod front_door;
mod honour;
#[path = "../support/idp.rs"]
mod idp;
mod kms;
mod listing;
mod locks;
mod multipart;
mod objects;
mod overload;
mod policies;
mod policy_effects;
mod presigned;
mod quotas;
mod ranges;
mod request;
mod sessions;
mod settings;
#[path = "../support/sign.rs"]
mod sign;
mod signatures;
mod table;
#[path = "../support/tls.rs"]
mod tls;
#[path = "../support/vault.rs"]
mod vault;
mod versions;
mod web_identity;
#[path = "../support/webhook.rs"]
mod webhook;
#[path = "../support/wire.rs"]
#[allow(dead_code)]
mod wire;
mod world;
