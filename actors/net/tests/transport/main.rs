//! Nodes talking over real QUIC on loopback.
#![allow(clippy::unwrap_used)]

mod calls;
mod hostile;
mod support;
mod turns;
