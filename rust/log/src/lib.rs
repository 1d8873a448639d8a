//! One partition's log: segments, indexes, append, read, recovery, retention
