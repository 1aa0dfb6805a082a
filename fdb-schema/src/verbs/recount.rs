//! A recount of what is kept as counters.

use crate::{
    error::Result,
    record::{Usage, VersionKind},
    verbs::{ListVersionsEntry, ListVersionsQuery, Meta, list::MAX_ENTRIES},
};

/// What the counters of a bucket say, and what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    pub kept: Usage,
    pub counted: Usage,
}

impl Meta {
    /// Counts a bucket's versions and compares. In pages, each a transaction of its own: while the bucket changes the two may differ though
    /// nothing is wrong.
    pub async fn recount_usage(&self, bucket: &str) -> Result<Recount> {
        let mut counted = Usage::default();
        let mut query = ListVersionsQuery { bucket: bucket.to_owned(), limit: MAX_ENTRIES, ..Default::default() };
        loop {
            let page = self.list_versions(&query).await?;
            for entry in page.entries {
                if let ListVersionsEntry::Version { version, .. } = entry
                    && version.kind == VersionKind::Object
                {
                    counted.objects += 1;
                    counted.bytes += version.size;
                }
            }
            match page.next {
                Some((key, version)) => (query.key_marker, query.version_marker) = (Some(key), version),
                None => break,
            }
        }
        Ok(Recount { kept: self.usage(bucket).await?, counted })
    }
}
