//! What a run leaves behind: `report.json`, and `report.html` which needs nothing beside it.

pub mod chart;
pub mod data;
pub mod html;

pub use data::{Report, Series, Tally};

use std::{fs, path::Path};

use crate::error::ChaosError;

/// Writes both files into `folder`, which is made.
pub fn write(report: &Report, folder: &Path) -> Result<(), ChaosError> {
    fs::create_dir_all(folder).map_err(ChaosError::io("create the report's folder"))?;
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| ChaosError::Io { what: "encode the report".into(), why: error.to_string() })?;
    fs::write(folder.join("report.json"), json).map_err(ChaosError::io("write report.json"))?;
    fs::write(folder.join("report.html"), html::page(report)).map_err(ChaosError::io("write report.html"))
}

#[cfg(test)]
mod tests;
