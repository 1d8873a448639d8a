//! Looking offsets up in a log: what a fetch does before it sends the bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fastlog_log::{LastStop, Log, LogConfig, LogError, LogOptions, Storage};

use crate::nanoseconds;

/// As much as a fetch of one partition takes by default (`max.partition.fetch.bytes`).
const SLICE_BYTES: usize = 1 << 20;

/// Looks `offsets` up in the log `topic-0` below `directory`, in this order; the time of each: from the offset by the
/// index and the headers of batches to file, position and length.
///
/// # Errors
/// What the log says: there is no such offset, or the files do not read.
pub fn lookup_times(
    directory: &Path,
    topic: &str,
    offsets: &[i64],
    now_ms: i64,
) -> Result<Vec<u64>, LogError> {
    let options =
        LogOptions { config: Arc::new(LogConfig::default()), ..LogOptions::new(topic, 0, LastStop::Clean) };
    let (log, _) = Log::open(&Storage::real(directory), options, now_ms)?;
    let mut times = Vec::with_capacity(offsets.len());
    for offset in offsets {
        let start = Instant::now();
        log.read(*offset, SLICE_BYTES, i64::MAX, true)?;
        times.push(nanoseconds(start));
    }
    log.close(false)?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use fastlog_protocol::batch::Builder;
    use fastlog_protocol::compression::Compression;

    use super::*;
    use crate::append::append_times;

    #[test]
    fn each_offset_of_the_log_is_found_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Builder::new();
        builder.append(1_700_000_000_000, None, Some(b"value"));
        let batch = builder.seal(Compression::None).unwrap();
        append_times(directory.path(), "t", &batch, 100, 1_700_000_000_000).unwrap();
        let look = |offset| lookup_times(directory.path(), "t", &[0, offset], 1_700_000_000_000);
        assert_eq!(look(99).unwrap().len(), 2);
        assert!(look(101).is_err());
    }
}
