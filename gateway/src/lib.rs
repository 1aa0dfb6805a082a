//! Cairn's S3 face: routes, authentication, checksums, XML and errors over [`cairn_actors::Store`].
//!
//! Nothing of S3 leaves this crate, and nothing of nodes, disks or fragments enters it. [`Gateway::start`] is all that
//! a node needs.

mod access;
mod admit;
mod answer;
mod audit;
mod body;
mod checksum;
mod connection;
mod context;
mod copy_source;
mod cors;
mod encryption;
mod error;
mod events;
mod expect;
mod fault;
mod honour;
mod http_date;
mod key_desk;
mod metrics;
mod network;
mod op;
mod options;
mod outbound;
mod pace;
mod percent;
mod public_access;
mod query;
mod query_headers;
mod recent;
mod secrets;
mod server;
mod service;
mod session;
mod shown;
mod tls;
mod turnstile;
mod verified;
mod web_identity;
mod witness;
mod xml;

pub use access::{AccessDesk, DeskError, Explanation, NewAccessKey, Question};
pub use audit::AuditLog;
pub use encryption::{KeyFile, KeyFileError, Keyring, KeyringStatus, VaultError, VaultOptions};
pub use events::{EventOptions, EventTargets, TIMEOUTS as EVENT_TIMEOUTS, TargetError, WebhookError, WebhookOptions};
pub use key_desk::{KeyDesk, KeyDeskError, RewrapPlace, RewrapStep};
pub use network::{Network, NetworkError};
pub use op::OBJECT_MAX_BYTES;
pub use options::{GatewayError, GatewayLimits, GatewayOptions, NamedCertificate};
pub use secrets::{SecretsKey, SecretsKeyError};
pub use server::Gateway;
pub use tls::Certificate;
pub use web_identity::{RoleError, WebIdentities, WebIdentityOptions};

/// What a `tracing` filter should say besides its own level: `s3s` logs every refused request as an error, which the
/// gateway logs itself with its request id.
pub const TRACING_DIRECTIVE: &str = "s3s=off";
