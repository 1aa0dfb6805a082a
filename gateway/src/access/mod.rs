//! Who may speak, and what each may do. There is one account: it owns all buckets and objects, its root is whoever has
//! the root keys of the configuration, and its users are those of the metadata.
//!
//! What is read of users and buckets for this is believed for 3 s ([`recent`](crate::recent)): with that delay, on
//! every node, a key that was revoked stops to work, and a policy that was changed holds. What cannot be read as a
//! policy is kept from allowing anything, and so are all that stand beside it, because it may have denied something.

mod account;
mod actions;
mod admission;
mod asking;
mod bucket_rules;
mod callers;
mod context;
mod desk;
mod judge;
mod known_user;
mod roles;

pub(crate) use account::{ACCOUNT, Identity, ROOT_USER};
pub(crate) use admission::Admission;
pub(crate) use asking::{Asking, BodyFacts};
pub(crate) use callers::{Credentials, NewSession, WantedSession, invalid_token};
pub use desk::{AccessDesk, DeskError, Explanation, NewAccessKey, Question};
pub(crate) use judge::{Access, Verdict};
