//! The scrub: once in `fastlog.scrub.interval.ms` all logs are read through, segment by segment, at a rate that disturbs nobody.
//!
//! Between two passes it does nothing. How far a pass came is written down now and then, in `scrub-checkpoint` of the data
//! directory, so that a broker that is started often still has its turn at every log. Crash points: the file is replaced
//! as a whole and not synced; an older one, or none, only has more read, or later.

mod doubts;

pub(crate) use doubts::Doubts;

use crate::broker::Broker;
use crate::events::Level;
use crate::pace::Brake;
use crate::partition::Partition;
use fastlog_log::file_system::atomic_file;
use fastlog_log::{LogDir, LogError, Scrubbed};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Its name in the data directory.
const FILE_NAME: &str = "scrub-checkpoint";
/// How often is written down how far a pass came.
const WRITE_MS: i64 = 10_000;

const NOT_SCRUBBED: &str = "a segment could not be scrubbed, look at its disk";

/// The settings of the scrub.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubSettings {
    /// `fastlog.scrub.interval.ms`: from the beginning of a pass to that of the next one; `None` = there is none.
    pub interval_ms: Option<i64>,
    /// `fastlog.scrub.max.bytes.per.second`.
    pub bytes_per_second: Option<f64>,
}

/// How far the scrub is.
#[derive(Default)]
pub(crate) struct Scrubber {
    brake: Brake,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// What the file said was read.
    is_known: bool,
    /// When the last whole pass began, or the count did.
    last_began_ms: i64,
    /// The pass that an earlier run did not finish: when it began, and its last partition.
    unfinished: Option<(i64, (String, i32))>,
    pass: Option<Pass>,
}

struct Pass {
    began_ms: i64,
    written_ms: i64,
    left: VecDeque<(Arc<str>, i32)>,
    /// Where the next segment of the first one starts.
    from: i64,
    bytes: u64,
    partitions: usize,
    damages: usize,
}

impl Scrubber {
    pub(crate) fn stop(&self) {
        self.brake.stop();
    }

    /// Checks a segment in which somebody found something bad, if there is one; false = nobody did. Before that, and
    /// while segments are checked, it looks at all that is doubted. One thread calls it.
    pub(crate) fn judge_doubts(&self, broker: &Broker, settings: &ScrubSettings) -> bool {
        self.look_at_doubts(broker);
        !self.brake.is_stopped() && self.check_doubted(broker, settings.bytes_per_second)
    }

    /// Checks the next segment; false = no pass is due, or none goes on now. One thread calls it.
    pub(crate) fn scrub_next(
        &self,
        broker: &Broker,
        directory: &LogDir,
        settings: &ScrubSettings,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let Some(interval_ms) = settings.interval_ms.filter(|_| !self.brake.is_stopped()) else {
            return Ok(false);
        };
        let mut progress = self.progress.lock();
        progress.read(directory, now_ms)?;
        if progress.pass.is_none() && !progress.begin(broker, interval_ms, now_ms) {
            return Ok(false);
        }
        let Some(pass) = &mut progress.pass else { return Ok(false) };
        let partition = pass.left.front().and_then(|(topic, index)| broker.partitions().get(topic, *index));
        if let Some(partition) = partition.filter(|it| it.log().size_bytes() > 0) {
            let pace = self.pace(broker, settings.bytes_per_second);
            let scrubbed = partition.log().scrub_segment(pass.from, &pace);
            if self.brake.is_stopped() {
                return Ok(false);
            }
            let next = pass.take(broker, &partition, scrubbed);
            if let Some(next) = next {
                pass.from = next;
                return Ok(true);
            }
            pass.partitions += 1;
        }
        let done = pass.left.pop_front();
        pass.from = 0;
        progress.went_on(broker, directory, done, now_ms)?;
        Ok(true)
    }
}

impl Progress {
    fn begin(&mut self, broker: &Broker, interval_ms: i64, now_ms: i64) -> bool {
        let unfinished = self.unfinished.take();
        let since_ms = now_ms.saturating_sub(self.last_began_ms);
        // a clock that was set back must not put it off for ever
        if unfinished.is_none() && (0..interval_ms).contains(&since_ms) {
            return false;
        }
        let (began_ms, after) = unfinished.map_or((now_ms, None), |(began_ms, last)| (began_ms, Some(last)));
        let all = broker.partitions().all();
        let keys = all.iter().map(|it| (it.topic().clone(), it.index()));
        let left = keys.filter(|(topic, index)| {
            after.as_ref().is_none_or(|(last, last_index)| (&**topic, index) > (&**last, last_index))
        });
        self.pass = Some(Pass {
            began_ms,
            written_ms: now_ms,
            left: left.collect(),
            from: 0,
            bytes: 0,
            partitions: 0,
            damages: 0,
        });
        true
    }

    /// A partition is done.
    fn went_on(
        &mut self,
        broker: &Broker,
        directory: &LogDir,
        done: Option<(Arc<str>, i32)>,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let Some(pass) = &mut self.pass else { return Ok(()) };
        if pass.left.is_empty() {
            pass.tell(broker, now_ms);
            self.last_began_ms = pass.began_ms;
            self.pass = None;
            return self.write(directory, None);
        }
        if now_ms.saturating_sub(pass.written_ms) < WRITE_MS {
            return Ok(());
        }
        pass.written_ms = now_ms;
        let unfinished = done.map(|(topic, index)| (pass.began_ms, topic, index));
        self.write(directory, unfinished)
    }

    fn read(&mut self, directory: &LogDir, now_ms: i64) -> Result<(), LogError> {
        if self.is_known {
            return Ok(());
        }
        let path = path_in(directory);
        let bytes = atomic_file::read(&*directory.storage().file_system, &path);
        let bytes = bytes.map_err(|source| failed("read", &path, source))?;
        self.is_known = true;
        match bytes.as_deref().and_then(parse) {
            Some((last_began_ms, unfinished)) => {
                (self.last_began_ms, self.unfinished) = (last_began_ms, unfinished);
                Ok(())
            }
            None => {
                self.last_began_ms = now_ms;
                self.write(directory, None)
            }
        }
    }

    fn write(&self, directory: &LogDir, unfinished: Option<(i64, Arc<str>, i32)>) -> Result<(), LogError> {
        let path = path_in(directory);
        let mut text = format!("0\n{}\n", self.last_began_ms);
        if let Some((began_ms, topic, index)) = unfinished {
            text.push_str(&format!("{began_ms} {topic} {index}\n"));
        }
        atomic_file::replace_unsynced(&*directory.storage().file_system, &path, text.as_bytes())
            .map_err(|source| failed("write", &path, source))
    }
}

impl Pass {
    /// Notes what came of a segment; where the next one of the log starts.
    fn take(
        &mut self,
        broker: &Broker,
        partition: &Partition,
        scrubbed: Result<Option<Scrubbed>, LogError>,
    ) -> Option<i64> {
        match scrubbed {
            Ok(scrubbed) => {
                let scrubbed = scrubbed?;
                self.bytes += scrubbed.bytes;
                self.damages += scrubbed.damages.len();
                scrubbed.damages.iter().for_each(|damage| tell_damage(broker, partition, damage));
                scrubbed.next
            }
            Err(error) => {
                tell_error(broker, partition, NOT_SCRUBBED, &error);
                partition.log().segment_after(self.from)
            }
        }
    }

    fn tell(&self, broker: &Broker, now_ms: i64) {
        let fields = vec![
            ("partitions", self.partitions.to_string()),
            ("bytes", self.bytes.to_string()),
            ("damages", self.damages.to_string()),
            ("seconds", (now_ms.saturating_sub(self.began_ms) / 1000).to_string()),
        ];
        broker.events().push(Level::Info, "scrubbed the logs", fields);
    }
}

fn tell_error(broker: &Broker, partition: &Partition, message: &'static str, error: &LogError) {
    let fields = vec![
        ("topic", partition.topic().to_string()),
        ("partition", partition.index().to_string()),
        ("reason", error.to_string()),
    ];
    broker.events().push(Level::Error, message, fields);
}

fn tell_damage(broker: &Broker, partition: &Partition, damage: &LogError) {
    let LogError::Corrupt { path, position, offset, next_readable_offset, reason } = damage else { return };
    let what_to_do = if broker.cluster.lease.is_endless() {
        "have consumers seek to the next readable offset, or send the records anew; check the disk"
    } else {
        "nothing now: it is mended from another replica, which is told; check the disk"
    };
    let fields = vec![
        ("topic", partition.topic().to_string()),
        ("partition", partition.index().to_string()),
        ("file", path.display().to_string()),
        ("position", position.to_string()),
        ("offset", offset.to_string()),
        ("next_readable_offset", next_readable_offset.map_or("none".to_owned(), |it| it.to_string())),
        ("reason", reason.clone()),
        ("what_to_do", what_to_do.to_owned()),
    ];
    broker.events().push(
        Level::Error,
        "the scrub found records that turned bad, they are not served",
        fields,
    );
}

fn path_in(directory: &LogDir) -> PathBuf {
    directory.path().join(FILE_NAME)
}

fn failed(action: &'static str, path: &std::path::Path, source: std::io::Error) -> LogError {
    LogError::Io { action, path: path.to_owned(), source: Arc::new(source) }
}

type Unfinished = (i64, (String, i32));

fn parse(bytes: &[u8]) -> Option<(i64, Option<Unfinished>)> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let last_began_ms = lines.next()?.parse().ok()?;
    let unfinished = lines.next().and_then(|line| {
        let mut words = line.split(' ');
        let began_ms = words.next()?.parse().ok()?;
        let topic = words.next()?.to_owned();
        Some((began_ms, (topic, words.next()?.parse().ok()?)))
    });
    Some((last_began_ms, unfinished))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_reads_back_and_nonsense_does_not() {
        assert_eq!(parse(b"0\n17\n"), Some((17, None)));
        assert_eq!(parse(b"0\n17\n23 a.b 4\n"), Some((17, Some((23, ("a.b".to_owned(), 4))))));
        assert_eq!(parse(b"0\n17\n23 a.b\n"), Some((17, None)));
        for bad in ["", "1\n17\n", "0\n", "0\nx\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
