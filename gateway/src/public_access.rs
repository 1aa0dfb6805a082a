//! Block Public Access of a bucket, and how it is written. What concerns access control lists holds anyway: there are
//! none.

use bytes::Bytes;

use crate::xml::{Element, Writer, XmlError, parse};

const ROOT: &str = "PublicAccessBlockConfiguration";
const FIELDS: [&str; 4] = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublicAccessBlock {
    block_public_acls: bool,
    ignore_public_acls: bool,
    /// No policy can be put that is public.
    pub(crate) block_public_policy: bool,
    /// One that is public allows nothing to those outside of the account.
    pub(crate) restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// What is not said is false.
    pub(crate) fn read(document: &Element) -> Result<Self, XmlError> {
        let fields = document.root(ROOT)?.fields(FIELDS)?;
        let mut flags = [false; FIELDS.len()];
        for (flag, field) in flags.iter_mut().zip(fields) {
            *flag = field.map(Element::flag).transpose()?.unwrap_or_default();
        }
        let [block_public_acls, ignore_public_acls, block_public_policy, restrict_public_buckets] = flags;
        Ok(Self { block_public_acls, ignore_public_acls, block_public_policy, restrict_public_buckets })
    }

    /// Reads what was kept of [`Self::document`].
    pub(crate) fn of_stored(document: &[u8]) -> Result<Self, XmlError> {
        Self::read(&parse(document)?)
    }

    pub(crate) fn document(&self) -> Bytes {
        let flags =
            [self.block_public_acls, self.ignore_public_acls, self.block_public_policy, self.restrict_public_buckets];
        Writer::document(ROOT, |xml| FIELDS.iter().zip(flags).for_each(|(name, flag)| xml.shown(name, flag)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn all_that_can_be_said_comes_back() {
        for bits in 0..16 {
            let [block_public_acls, ignore_public_acls, block_public_policy, restrict_public_buckets] =
                [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let said = PublicAccessBlock {
                block_public_acls,
                ignore_public_acls,
                block_public_policy,
                restrict_public_buckets,
            };
            assert_eq!(PublicAccessBlock::of_stored(&said.document()).unwrap(), said);
        }
    }

    #[test]
    fn what_is_not_said_is_false_and_what_is_not_known_is_refused() {
        let read = |inner: &str| PublicAccessBlock::of_stored(format!("<{ROOT}>{inner}</{ROOT}>").as_bytes());
        assert_eq!(read("").unwrap(), PublicAccessBlock::default());
        let said = read("<BlockPublicPolicy>TRUE</BlockPublicPolicy>").unwrap();
        assert_eq!(said, PublicAccessBlock { block_public_policy: true, ..PublicAccessBlock::default() });
        assert!(read("<BlockPublicPolicy>yes</BlockPublicPolicy>").is_err());
        assert!(read("<BlockPublicPolicies>true</BlockPublicPolicies>").is_err());
        assert!(read("<BlockPublicPolicy>true</BlockPublicPolicy>".repeat(2).as_str()).is_err());
    }
}
