//! XML documents: those that clients send, read from any well-formed spelling, and those that they are answered, which
//! can be written whatever a key contains.

mod fields;
mod parse;
mod write;

pub(crate) use parse::{Element, XmlError, parse};
pub(crate) use write::Writer;
