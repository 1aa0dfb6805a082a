//! A failure domain on the command line.

use cairn_schema::record::FailureDomain;
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DomainArg {
    Disk,
    Node,
    Rack,
    Zone,
}

impl DomainArg {
    pub(crate) fn domain(self) -> FailureDomain {
        match self {
            Self::Disk => FailureDomain::Disk,
            Self::Node => FailureDomain::Node,
            Self::Rack => FailureDomain::Rack,
            Self::Zone => FailureDomain::Zone,
        }
    }
}
