//! What opening a log found out.

use std::path::PathBuf;

use crate::error::LogError;

/// How the last run of a broker on a data directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// It closed its logs.
    Clean,
    /// The process died, the machine went on: all that was written is in its files.
    ProcessDied,
    /// The machine was started since: what was not synced may be lost, in any order.
    MachineDied,
}

/// An end that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Its size since.
    pub position: u64,
    /// The log's end since: the first offset that is gone.
    pub offset: i64,
    /// Bytes cut off that segment.
    pub bytes: u64,
    /// Later segments that were removed.
    pub segments_removed: usize,
    /// What was wrong at `position`.
    pub reason: String,
}

/// What opening a log found and did.
#[derive(Clone, Debug)]
pub struct RecoveryReport {
    /// The rules that were followed.
    pub last_stop: LastStop,
    /// The offset that the next record will have.
    pub log_end_offset: i64,
    /// The end that was cut off, if any.
    pub cut: Option<Cut>,
    /// The log ends below the checkpointed high watermark: committed records are missing here, so this replica counts
    /// as unclean.
    pub below_high_watermark: bool,
    /// The log ends below the recovery point: synced records are missing, which no crash explains.
    pub below_recovery_point: bool,
    /// Damaged places that were found, each a [`LogError::Corrupt`]. Nothing was deleted there.
    pub damages: Vec<LogError>,
}

impl RecoveryReport {
    pub(crate) fn new(last_stop: LastStop) -> Self {
        Self {
            last_stop,
            log_end_offset: 0,
            cut: None,
            below_high_watermark: false,
            below_recovery_point: false,
            damages: Vec::new(),
        }
    }
}
