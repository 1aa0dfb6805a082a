//! `cairn version`.

/// One line for scripts, one for people.
pub(crate) fn text() -> String {
    let backends = if cfg!(feature = "fdb") { "embedded, remote, fdb" } else { "embedded, remote" };
    format!("cairn {}\nmetadata backends: {backends}\n", env!("CARGO_PKG_VERSION"))
}
