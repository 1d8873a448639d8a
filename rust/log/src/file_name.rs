//! Kafka's names for the files of a partition and for its directory.

/// Suffix of the batches.
pub const LOG: &str = "log";
/// Suffix of the offset index.
pub const OFFSET_INDEX: &str = "index";
/// Suffix of the time index.
pub const TIME_INDEX: &str = "timeindex";
/// Suffix of the index of aborted transactions.
pub const TXN_INDEX: &str = "txnindex";
/// Suffix of a snapshot of the producers' state.
pub const SNAPSHOT: &str = "snapshot";
/// Added to the name of a file that will be removed.
pub const DELETED: &str = ".deleted";
/// Added to the names of a copy that the cleaner makes.
pub const CLEANED: &str = ".cleaned";
/// Added to the names of a copy that takes the place of what it was made from.
pub const SWAP: &str = ".swap";
/// Ends the name of the directory of a deleted partition.
pub const DELETED_DIRECTORY: &str = "-delete";
/// Ends the name of the directory of a copy that is to take a partition's place.
pub const FUTURE_DIRECTORY: &str = "-future";
/// The most bytes that a name may have on the file systems in use.
const NAME_BYTES_MAX: usize = 255;

/// `00000000000000000042.log` for 42 and `log`: names sort as offsets do.
pub fn of_offset(offset: i64, suffix: &str) -> String {
    format!("{offset:020}.{suffix}")
}

/// The offset and suffix of a name that [`of_offset`] made; `None` for any other.
pub fn parse(name: &str) -> Option<(i64, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_offset)?, suffix))
}

/// `topic-3`.
pub fn of_partition(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The topic and partition of a directory that [`of_partition`] named; `None` for any other, as those that are
/// being deleted (`-delete`) or moved (`-future`), which end in no number.
pub fn parse_partition(name: &str) -> Option<(&str, i32)> {
    let (topic, digits) = name.rsplit_once('-')?;
    let partition: i32 = digits.parse().ok()?;
    (!topic.is_empty() && partition >= 0 && of_partition(topic, partition) == name)
        .then_some((topic, partition))
}

/// `topic-3.<32 hex digits>-delete`, the topic's name cut where the whole would be too long for a file system.
pub fn of_deleted_partition(topic: &str, partition: i32, unique: uuid::Uuid) -> String {
    let suffix = format!("-{partition}.{}{DELETED_DIRECTORY}", unique.simple());
    let kept = topic.len().min(NAME_BYTES_MAX - suffix.len());
    format!("{}{suffix}", topic.get(..kept).unwrap_or_default())
}

/// `topic-3.<32 hex digits>-future`; `None` where that is too long for a file system (KAFKA-4893).
pub fn of_future_partition(topic: &str, partition: i32, unique: uuid::Uuid) -> Option<String> {
    let name = format!("{topic}-{partition}.{}{FUTURE_DIRECTORY}", unique.simple());
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// The topic and partition of a directory that [`of_future_partition`] named; `None` for any other.
pub fn parse_future_partition(name: &str) -> Option<(&str, i32)> {
    let (partition, unique) = name.strip_suffix(FUTURE_DIRECTORY)?.rsplit_once('.')?;
    let is_unique = unique.len() == 32 && unique.bytes().all(|byte| byte.is_ascii_hexdigit());
    parse_partition(partition).filter(|_| is_unique)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(of_offset(42, LOG), "00000000000000000042.log");
        assert_eq!(parse("00000000000000000042.timeindex"), Some((42, "timeindex")));
        assert_eq!(parse("00000000000000000042.log.deleted"), Some((42, "log.deleted")));
        for other in
            ["42.log", "leader-epoch-checkpoint", "0000000000000000004x.log", "99999999999999999999.log"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_topic_may_have_dashes_and_dots() {
        assert_eq!(parse_partition("a-b.c-12"), Some(("a-b.c", 12)));
        for other in ["a", "-1", "a-", "a-01", "a-1.0123-delete", "a-x", "a-1-future"] {
            assert_eq!(parse_partition(other), None, "{other}");
        }
        assert_eq!(parse_partition("a--5"), Some(("a-", 5)));
    }

    #[test]
    fn the_directory_of_a_copy_names_its_partition() {
        let name = of_future_partition("a.b-c", 7, uuid::Uuid::nil()).unwrap();
        assert_eq!(name, "a.b-c-7.00000000000000000000000000000000-future");
        assert_eq!(parse_future_partition(&name), Some(("a.b-c", 7)));
        assert_eq!(parse_partition(&name), None);
        for other in ["a-1-future", "a-1.0123-future", "a.00000000000000000000000000000000-future", "a-1"] {
            assert_eq!(parse_future_partition(other), None, "{other}");
        }
        assert_eq!(of_future_partition(&"t".repeat(213), 7, uuid::Uuid::nil()).map(|it| it.len()), Some(255));
        assert_eq!(of_future_partition(&"t".repeat(214), 7, uuid::Uuid::nil()), None);
    }

    #[test]
    fn a_deleted_partitions_name_fits_a_file_system() {
        let name = of_deleted_partition(&"t".repeat(249), 7, uuid::Uuid::nil());
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("-7.00000000000000000000000000000000-delete"));
        assert_eq!(parse_partition(&name), None);
    }
}
