"""Where fastlog answers otherwise than Apache Kafka 4.3.1 on purpose: the one list of such places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY


@dataclass(frozen=True)
class Difference:
    """One place: why, and every field that differs with Kafka's value and ours, in the order of the answer."""

    why: str
    fields: tuple[tuple[str, Any, Any], ...]


def _rows(group: str, why: str, names: list[str], *fields: tuple[str, Any, Any]) -> dict[str, Difference]:
    return {f"{group}/{name}": Difference(why, fields) for name in names}


DELIBERATE: dict[str, Difference] = {
    # ---- Produce ----
    **_rows(
        "produce",
        "Kafka never answers; a client would hang until its time-out",
        ["null"],
        ("answer", "silent", "errors [87]"),
    ),
    **_rows(
        "produce",
        "a batch is at fault, not the broker: UNKNOWN_SERVER_ERROR tells a user nothing",
        ["codec 5", "codec 7", "junk as gzip", "junk as snappy", "junk as lz4", "junk as zstd", "gzip cut"],
        ("error_code", -1, 87),
    ),
    **_rows(
        "produce",
        "as above, and the record at fault is named",
        ["varint overflow"],
        ("error_code", -1, 87),
        ("record_errors", "0 listed", "1 listed"),
    ),
    **_rows(
        "produce",
        "as above; Kafka looks at the length before the log, so it tells no log start",
        ["huge length"],
        ("error_code", -1, 87),
        ("log_start_offset", -1, 0),
    ),
    **_rows(
        "produce",
        "as above, for offset deltas that are not 0, 1, 2, …",
        ["offset deltas in gzip"],
        ("error_code", -1, 87),
        ("record_errors", "0 listed", "1 listed"),
    ),
    **_rows(
        "produce",
        "Kafka stores batches whose records claim each other's offsets",
        ["offset deltas 0 0 2"],
        ("error_code", 0, 87),
        ("base_offset", 0, -1),
        ("record_errors", "0 listed", "1 listed"),
    ),
    **_rows(
        "produce",
        "Kafka stores batches whose records claim each other's offsets",
        ["offset deltas 0 2 1"],
        ("error_code", 0, 87),
        ("base_offset", 0, -1),
        ("record_errors", "0 listed", "2 listed"),
    ),
    **_rows(
        "produce",
        "Kafka drops bytes behind the batch silently",
        ["a batch and one byte"],
        ("error_code", 0, 87),
        ("base_offset", 0, -1),
    ),
    **_rows(
        "produce",
        "one answer for all bytes behind the batch, and one that clients do not send again",
        ["a batch and zeros"],
        ("error_code", 2, 87),
        ("log_start_offset", -1, 0),
    ),
    **_rows(
        "produce",
        "only the broker may set these bits, and an id without an epoch cannot be checked; Kafka stores them",
        ["delete horizon", "producer without an epoch"],
        ("error_code", 0, 87),
        ("base_offset", 0, -1),
    ),
    **_rows(
        "produce",
        "a producer may not claim the broker's time; Kafka clears the bit",
        ["timestamp type LogAppendTime"],
        ("error_code", 0, 32),
        ("base_offset", 0, -1),
    ),
    **_rows(
        "produce",
        "there are no transactions yet, so no transactional id that could be missing",
        ["transactional without a producer"],
        ("error_code", 53, 48),
    ),
    **_rows(
        "produce",
        "the record at fault is named where Kafka names none",
        [
            "bytes left over in a record",
            "count too high",
            "gzip of too few",
            "no records inside",
            "record longer than the batch",
            "record of length 0",
            "two billion records",
        ],
        ("record_errors", "0 listed", "1 listed"),
    ),
    **_rows(
        "produce",
        "Kafka refuses these before it looks for the log; the log's start is right all the same",
        [
            "cut by one byte",
            "cut in its header",
            "cut in its length",
            "empty bytes",
            "magic 0",
            "magic 1",
            "two batches",
        ],
        ("log_start_offset", -1, 0),
    ),
    **_rows(
        "produce",
        "the records' own times hold in a topic of CreateTime, also in a batch that was sent twice; Kafka says "
        "the batch's largest timestamp, which producers then report for all its records",
        ["sent again"],
        ("log_append_time_ms", "set", -1),
    ),
    **_rows(
        "produce",
        "as above, two of them",
        ["two sent again"],
        ("log_append_time_ms", "set", -1),
        ("log_append_time_ms", "set", -1),
    ),
    # ---- Fetch ----
    **_rows(
        "fetch",
        "only brokers may act as replicas: Kafka takes any client for one (CVE-2018-1288)",
        ["as replica 1", "as replica 2", "as replica 99"],
        ("error_code", 6, 31),
    ),
    **_rows(
        "fetch",
        "a limit below 0 is 0, not an error of the broker",
        ["negative limit of a partition", "negative limit"],
        ("error_code", -1, 0),
        ("high_watermark", -1, 12),
        ("last_stable_offset", -1, 12),
        ("log_start_offset", -1, 0),
        ("records", b"", ANY),
    ),
    **_rows(
        "fetch",
        "anything but read_committed reads all, as with unknown values before; Kafka fails with its own error",
        ["unknown isolation level"],
        ("error_code", -1, 0),
        ("error_code", -1, 0),
        ("high_watermark", -1, 12),
        ("last_stable_offset", -1, 12),
        ("log_start_offset", -1, 0),
        ("aborted_transactions", [], None),
    ),
    **_rows(
        "fetch",
        "what is asked twice is answered twice; finding out costs a table for every fetch",
        ["partition twice"],
        ("partitions", "1 listed", "2 listed"),
    ),
    **_rows(
        "fetch", "a session of nothing only takes a place", ["session of nothing"], ("session_id", "set", 0)
    ),
    **_rows(
        "fetch",
        "a client that cannot read zstd gets what stands before it; Kafka looks at the topic's setting only",
        ["zstd behind others"],
        ("records", ANY, ANY),
    ),
    **_rows(
        "fetch",
        "a client that cannot read zstd is told so; Kafka looks at the topic's setting only",
        ["zstd first"],
        ("error_code", 0, 76),
        ("high_watermark", 7, -1),
        ("last_stable_offset", 7, -1),
        ("log_start_offset", 0, -1),
        ("records", ANY, b""),
    ),
    **_rows(
        "fetch",
        "an id that is gone is unknown, in a session as outside of one; Kafka looks for the name in a session",
        ["deleted id in a session"],
        ("error_code", 3, 100),
    ),
    **_rows(
        "fetch",
        "as above; clients ask for metadata after each of them",
        ["recreated topic's old id in a session"],
        ("error_code", 103, 100),
        ("aborted_transactions", None, []),
    ),
    # ---- offsets ----
    **_rows(
        "list offsets",
        "a record that was deleted is not named; Kafka looks at the segment's largest timestamp only",
        ["largest timestamp of deleted records"],
        ("timestamp", ANY, -1),
        ("offset", 5, -1),
        ("leader_epoch", 0, -1),
    ),
    **_rows(
        "leader epoch",
        "no leader ever had a negative epoch",
        ["-2"],
        ("leader_epoch", -2, -1),
        ("end_offset", 0, -1),
    ),
    # ---- Metadata ----
    **_rows(
        "metadata",
        "the topic is there when the answer is: a client needs no second request",
        ["topic being created"],
        ("error_code", 3, 0),
        ("topic_id", ANY, "set"),
        ("partitions", "0 listed", "1 listed"),
    ),
    **_rows(
        "metadata",
        "Kafka leaves out the names when there are ids",
        ["ids and names"],
        ("topics", "1 listed", "2 listed"),
    ),
    **_rows(
        "metadata",
        "one topic without a name fails alone; Kafka fails with its own error",
        ["null name"],
        ("brokers", "0 listed", "1 listed"),
        ("cluster_id", None, "set"),
        ("controller_id", -1, 1),
        ("error_code", -1, 42),
    ),
    **_rows(
        "metadata",
        "as above, and the answer has an error of its own",
        ["null name from version 13 on"],
        ("brokers", "0 listed", "1 listed"),
        ("cluster_id", None, "set"),
        ("controller_id", -1, 1),
        ("error_code", -1, 42),
        ("error_code", -1, 0),
    ),
    # ---- DescribeTopicPartitions ----
    **_rows(
        "describe topics",
        "Kafka's end of the page overflows, and what follows is not told",
        ["cursor at the largest number"],
        ("topics", "1 listed", "3 listed"),
        ("next_cursor", ANY, None),
    ),
    **_rows(
        "describe topics",
        "an empty name is a bad one, as others are; Kafka fails with its own error, at the other topics too",
        ["empty name"],
        ("error_code", -1, 17),
        ("topic_authorized_operations", -(2**31), 3576),
    ),
    # ---- groups of the consumer protocol ----
    **_rows(
        "consumer groups",
        "a static member that was fenced and has abandoned all comes back with its own id; with Kafka it cannot before "
        "its session ends",
        ["static member joins again"],
        ("error_code", 111, 0),
        ("member_id", None, "set"),
        ("member_epoch", 0, 4),
        ("heartbeat_interval_ms", 0, 5_000),
        ("assignment", None, ANY),
    ),
    # ---- topics and settings ----
    **_rows(
        "create topics",
        "a topic that is only validated has no id; Kafka makes one up",
        ["id of a topic that is not made"],
        ("topic_id", "set", ANY),
    ),
    **_rows(
        "create partitions",
        "POLICY_VIOLATION, as for CreateTopics, with a text that says why; Kafka's controller fails with its own error "
        "and resigns for a moment",
        ["a thousand million"],
        ("error_code", -1, 44),
        ("error_code", -1, 44),
    ),
    **_rows(
        "create partitions",
        "a group's partition follows from their number: Kafka takes more, and then finds half of its groups no more",
        ["of groups"],
        ("error_code", 0, 37),
    ),
    **_rows(
        "delete topics",
        "Kafka deletes the positions of all groups when asked for `--topic '.*'`",
        ["of groups"],
        ("error_code", 0, 17),
    ),
    **_rows(
        "configs",
        "a question of 2 MB that names a broker 200,000 times would have an answer of 4 GB",
        ["described twice"],
        ("results", ANY, ANY),
    ),
    **_rows(
        "configs",
        "our own setting",
        ["default of fastlog.durability", "default of fastlog.restored.from", "default of fastlog.restoring"],
        ("configs", "0 listed", "1 listed"),
    ),
    **_rows(
        "configs",
        "Kafka's election of eligible leaders sets this one for the whole cluster at its first start",
        ["default of min.insync.replicas"],
        ("config_source", 3, 5),
        ("synonyms", "2 listed", "1 listed"),
    ),
    **_rows(
        "configs",
        "the default comes from another setting of the broker; Kafka does not say so",
        [
            "default of flush.ms",
            "default of retention.ms",
            "default of segment.jitter.ms",
            "default of segment.ms",
        ],
        ("synonyms", "0 listed", "1 listed"),
    ),
    **_rows(
        "configs",
        "the client is at fault, not the broker",
        ["unknown operation"],
        ("error_code", -1, 42),
    ),
    **_rows(
        "configs",
        "a setting that nobody knows is refused; Kafka keeps it for plug-ins",
        ["broker '1': no.such.setting 1", "broker '': no.such.setting 1"],
        ("error_code", 0, 40),
    ),
    **_rows(
        "configs",
        "a wrong value is INVALID_CONFIG for brokers as it is for topics",
        ["broker '1': log.retention.ms soon", "broker '': log.retention.ms soon"],
        ("error_code", 42, 40),
    ),
    **_rows(
        "configs",
        "Kafka never answers; a client would hang until its time-out",
        ["a resource twice"],
        ("answer", "silent", "errors [42]"),
    ),
}
