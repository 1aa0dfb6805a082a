//! What a bucket itself says of who may do what.

use std::sync::Arc;

use cairn_iam::{Policy, PolicyKind};
use cairn_schema::{
    Meta, MetaError,
    record::{BucketDocument, RequestLimits},
};

use crate::{public_access::PublicAccessBlock, recent::Recent};

/// About what an entry takes besides its policy.
const ENTRY_BYTES: usize = 1024;
const READ_TIMES: usize = 8;

/// The policy of a bucket, its Block Public Access settings, and how many requests it takes.
#[derive(Debug)]
pub(super) struct BucketRules {
    /// As they were read: when they are read again and are the same, nothing else need be done again.
    texts: [Option<Vec<u8>>; 2],
    pub(super) policy: Option<Policy>,
    /// There is a policy that cannot be read: it may deny anything.
    pub(super) broken: bool,
    pub(super) restrict_public: bool,
    /// Of requests.
    pub(super) limits: RequestLimits,
}

impl BucketRules {
    fn of(bucket: &str, limits: RequestLimits, texts: [Option<Vec<u8>>; 2]) -> Self {
        let [policy, block] = &texts;
        let policy = policy.as_deref().map(|text| Policy::parse(PolicyKind::Bucket { name: bucket }, text));
        if let Some(Err(error)) = &policy {
            tracing::error!(bucket, %error, "a bucket's policy cannot be read: nobody may do anything in it");
        }
        let block = block.as_deref().map(PublicAccessBlock::of_stored);
        if let Some(Err(error)) = &block {
            tracing::error!(bucket, %error, "a bucket's access block cannot be read: no access by the public");
        }
        // One that cannot be read restricts all that there is to restrict.
        let restrict_public = block.is_some_and(|block| block.map_or(true, |block| block.restrict_public_buckets));
        let broken = matches!(policy, Some(Err(_)));
        Self { policy: policy.and_then(Result::ok), broken, restrict_public, limits, texts }
    }

    fn weight(&self) -> usize {
        ENTRY_BYTES + READ_TIMES * self.texts.iter().flatten().map(Vec::len).sum::<usize>()
    }
}

/// Finds what buckets say.
#[derive(Default)]
pub(super) struct BucketBook(Recent<Arc<BucketRules>>);

impl BucketBook {
    pub(super) fn forget(&self, bucket: &str) {
        self.0.forget(bucket);
    }

    /// None if there is no such bucket, which is not believed any longer than a moment: it may be created at once.
    pub(super) async fn rules(&self, meta: &Meta, bucket: &str) -> Result<Option<Arc<BucketRules>>, MetaError> {
        let read = async |before: Option<Arc<BucketRules>>| {
            let policy = meta.bucket_document(bucket, BucketDocument::Policy);
            let block = meta.bucket_document(bucket, BucketDocument::PublicAccessBlock);
            let (policy, block, row) = tokio::try_join!(policy, block, meta.bucket(bucket))?;
            let (texts, limits) = ([policy, block], row.limits);
            match before {
                Some(before) if before.texts == texts && before.limits == limits => Ok(before),
                _ => Ok(Arc::new(BucketRules::of(bucket, limits, texts))),
            }
        };
        match self.0.get(bucket, |rules| rules.weight(), read).await {
            Ok(rules) => Ok(Some(rules)),
            Err(MetaError::NoSuchBucket(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
