//! The data directories, as Python is told of them.

use fastlog_broker::DescribedDirectory;
use fastlog_log::Space;

/// Path, error (empty = none), total and usable bytes, and (topic, partition, bytes) of each open log.
pub(super) type Described = (String, String, u64, u64, Vec<(String, i32, u64)>);

pub(super) fn described(directory: DescribedDirectory) -> Described {
    let (space, error) = match directory.space {
        Ok(space) => (space, String::new()),
        Err(error) => (Space::default(), error.to_string()),
    };
    let sizes = directory.sizes.into_iter().map(|(topic, index, bytes)| (topic.to_string(), index, bytes));
    (directory.path.display().to_string(), error, space.total, space.usable, sizes.collect())
}
