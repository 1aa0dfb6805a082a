//! Who may do what: policies in the language of AWS IAM and of S3's bucket policies, and decisions by them.
//!
//! Everything here is a pure function of its arguments: no files, no clock, no users, no HTTP. Whoever asks reads the
//! policies ([`Policy::parse`]), says in a [`Request`] all that is known of who wants what, and has it decided by
//! [`decide`]. The time, if a policy asks for it, is a condition key like others.
//!
//! There is one account: every user of a cluster is in it, and owns nothing that is not the account's.

mod actions;
mod conditions;
mod decision;
mod error;
mod evaluate;
mod json;
mod operators;
mod policy;
mod principals;
mod public;
mod request;
mod resources;
mod statement;
mod table;
mod template;
mod values;
mod wildcard;

pub use decision::{Decision, Ground, Missing, Policies, Source, StatementRef};
pub use error::{Fault, PolicyError, StatementName};
pub use evaluate::decide;
pub use policy::{BUCKET_POLICY_MAX_BYTES, IDENTITY_POLICY_MAX_BYTES, Policy, PolicyKind, SESSION_POLICY_MAX_BYTES};
pub use request::{Context, Principal, Request};
pub use table::{actions, condition_keys};
