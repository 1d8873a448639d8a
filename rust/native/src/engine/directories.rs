//! The data directories, as Python is told of them.

use fastlog_broker::DescribedDirectory;
use fastlog_log::Space;

/// Of a replica that is to be moved there: topic, partition, bytes that are copied, and how many offsets it is behind.
type Future = (String, i32, u64, i64);

/// Path, error (empty = none), total and usable bytes, (topic, partition, bytes) of each open log, and what is to come.
pub(super) type Described = (String, String, u64, u64, Vec<(String, i32, u64)>, Vec<Future>);

pub(super) fn described(directory: DescribedDirectory) -> Described {
    let (space, error) = match directory.space {
        Ok(space) => (space, String::new()),
        Err(error) => (Space::default(), error.to_string()),
    };
    let sizes = directory.sizes.into_iter().map(|(topic, index, bytes)| (topic.to_string(), index, bytes));
    let futures = directory
        .futures
        .into_iter()
        .map(|it| (it.topic.to_string(), it.index, it.size_bytes, it.offset_lag));
    let path = directory.path.display().to_string();
    (path, error, space.total, space.usable, sizes.collect(), futures.collect())
}
