//! How nodes speak to each other: the frames ([`wire`]), who may ([`tls`]), and the way of a call to its disk
//! ([`transport`]). It knows no files: a disk of this node is a [`cairn_fragment::LocalDisk`].

pub mod tls;
pub mod transport;
pub mod wire;
