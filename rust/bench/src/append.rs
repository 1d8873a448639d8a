//! Appending to a log in this process, with everything that a broker's append does below the request.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fastlog_log::{AppendError, AppendOptions, LastStop, Log, LogConfig, LogOptions, Storage};

use crate::nanoseconds;

/// Appends `batch` `count` times to a new log, `topic-0` below `directory`; the time of each append. The batch is checked
/// each time as a broker checks it. The log is closed at the end, its files stay.
///
/// # Errors
/// What the log says: the batch is not one, or the disk failed.
pub fn append_times(
    directory: &Path,
    topic: &str,
    batch: &[u8],
    count: usize,
    now_ms: i64,
) -> Result<Vec<u64>, AppendError> {
    let config = LogConfig { max_message_bytes: batch.len().max(1 << 20), ..LogConfig::default() };
    let options = LogOptions { config: Arc::new(config), ..LogOptions::new(topic, 0, LastStop::Clean) };
    let (log, _) = Log::open(&Storage::real(directory), options, now_ms)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        log.append(batch, 0, now_ms, AppendOptions::default())?;
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

    #[test]
    fn appends_a_batch_so_many_times_and_refuses_what_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Builder::new();
        builder.append(1_700_000_000_000, None, Some(b"value"));
        let batch = builder.seal(Compression::None).unwrap();
        let times = append_times(directory.path(), "good", &batch, 5, 1_700_000_000_000).unwrap();
        assert_eq!(times.len(), 5);
        let segment = directory.path().join("good-0").join("00000000000000000000.log");
        assert_eq!(std::fs::metadata(segment).unwrap().len(), 5 * batch.len() as u64);
        let mut broken = batch;
        broken[30] ^= 1;
        assert!(append_times(directory.path(), "bad", &broken, 1, 1_700_000_000_000).is_err());
    }
}
