//! The table of all records that have a stored form: what each is called, and the version of its format.

use super::{
    AccessKey, AccessPolicy, Blob, Bucket, ClusterMaintenance, ClusterPolicy, ClusterRates, DeadEvent, Disk, Event,
    Group, GroupMove, GroupRepair, Job, Lease, Lifecycle, Node, Upload, User, UserGroup, access, bucket, encryption,
    lease, rows,
};
use crate::codec::{CodecError, Stored};

macro_rules! stored {
    ($($record:ty => $what:literal $(, version $version:literal)? $(, older by $migrate:path)?);+ $(;)?) => {
        /// What every record is called: a test holds that each has its bytes pinned.
        pub const RECORDS: &[&str] = &[$($what),+];

        $(impl Stored for $record {
            const WHAT: &'static str = $what;
            $(const VERSION: u8 = $version;)?
            $(fn migrate(version: u8, body: &[u8]) -> Option<Result<Self, CodecError>> {
                $migrate(version, body)
            })?
        })+
    };
}

stored! {
    Bucket => "bucket row", version 4, older by bucket::older;
    Blob => "blob row";
    Upload => "upload row", version 3, older by encryption::of_before::<1, 2, _>;
    Node => "node row";
    Disk => "disk row";
    Group => "group row";
    ClusterPolicy => "policy row";
    ClusterRates => "rates row";
    ClusterMaintenance => "maintenance row";
    GroupRepair => "group repair row";
    GroupMove => "group move row";
    Job => "job row";
    AccessKey => "access key row", version 2;
    User => "user row", version 2, older by access::older_user;
    UserGroup => "user group row";
    AccessPolicy => "access policy row";
    Lease => "lease row", version 2, older by lease::older;
    Lifecycle => "lifecycle";
    Event => "event row";
    DeadEvent => "dead event row";
    rows::DocumentHead => "bucket document head", version 2;
    rows::ClusterRow => "cluster row";
    rows::HeadRow => "head row";
    rows::VersionRow => "version row", version 4, older by encryption::of_before::<2, 3, _>;
    rows::PartRow => "part row";
    rows::GroupBlobRow => "group blob row";
    rows::LedgerRow => "ledger row";
    rows::ReclaimRow => "reclaim row";
    rows::AttemptRow => "attempt row", version 3, older by encryption::of_before::<1, 2, _>;
    rows::CompletedRow => "completed upload row", version 3, older by encryption::of_before::<1, 2, _>;
    u64 => "number row";
}
