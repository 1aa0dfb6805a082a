//! Encryption at rest: keys, how they are wrapped and by whom, and the sealing of blocks. No HTTP of S3 in it, and no
//! rules of S3.
//!
//! # What is sealed by what
//!
//! ```text
//! master key (a version of it, in a key file or in a key management)          customer's key (of a request)
//!   └─ data key (of a key management; of one version, or of a bucket's for some minutes)  │
//!        └──────────────── wraps the version's key (256 random bits) ─────────────────────┘
//!                            └─ HKDF with the blob's name ─▶ the blob's key ─▶ seals its blocks of 64 KiB
//! ```
//!
//! A version (and an upload, whose parts become one) has a key of its own, drawn when it is begun, and kept beside it,
//! wrapped ([`wrap`]). Changing the master key's version wraps it again and touches no data. CopyObject shares blobs
//! and takes the wrapped key along; what is to be sealed by another kind of key is read and written again.
//!
//! # Why no nonce repeats under a key
//!
//! A blob's key is HKDF-SHA256 of its version's key with the blob's name as the information. Both are drawn at
//! random: 256 bits for each version, 128 for each body that is written, also for one that is sent again. So of n
//! bodies that are ever sealed for one version or upload two have the same key with a probability of at most n²/2¹²⁹
//! (a thousand million of them: below 2⁻⁶⁸), and of different versions only by a collision of 256 bits. Under a
//! blob's key the nonce of a block is its number and whether it is the blob's last (the STREAM construction of Hoang,
//! Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015): a
//! number is sealed once, in order, by the one writer of the blob, which keeps what it sealed; hedges and retries of
//! stripes send that again. A body that is given up takes its blob's name with it.
//!
//! A wrapping key wraps once as well: it is HKDF-SHA256 of the master (data, customer's) key with a salt of 256 random
//! bits that is kept with what it wrapped. However many versions a master key has, no two of them share a wrapping key
//! and a nonce.
//!
//! # Why blocks cannot be swapped, cut or replayed
//!
//! A block opens only under its blob's key, at its number, with its mark of the last one. So a block of another blob,
//! or of another place in it, does not open; what was cut off behind a block shows because the one before lacks the
//! mark, and what is added because the one before has it. Blobs are written once, so there is no older state of one
//! that could be played back. Which blobs make up which version is the metadata's word, which this does not protect.

mod blocks;
mod data_keys;
mod error;
mod key_file;
mod keyring;
mod secret;
mod vault;
mod wrap;

pub(crate) use {
    error::KeyError,
    keyring::Wanted,
    secret::Secret,
    wrap::{open_customer, wrap_customer},
};
pub use {
    key_file::{KeyFile, KeyFileError},
    keyring::{Keyring, KeyringStatus},
    vault::{VaultError, VaultOptions},
};
