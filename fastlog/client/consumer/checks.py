"""What applications give a consumer, checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastlog.client.committed_offset import CommittedOffset
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    #: a partition: topic and number
    Partition = tuple[str, int]
    #: what is to be read: names, or a pattern that whole names match
    Topics = str | Iterable[str] | re.Pattern[str]
    #: a position to commit, with metadata if that is wanted
    Offset = int | CommittedOffset

#: what Kafka keeps beside a position at most, by default
GROUP_ID_LENGTH_MAX = 32_767


def checked_partition(partition: Partition) -> TopicPartition:
    """`partition` as a TopicPartition; raises ConfigError where it is none."""
    match partition:
        case (str() as topic, int() as number) if (
            topic and not isinstance(number, bool) and 0 <= number < 2**31
        ):
            return TopicPartition(topic, number)
    raise ConfigError(f"{partition!r} is no partition: write TopicPartition('topic', 0) or ('topic', 0)")


def checked_offset(partition: Partition, offset: int) -> int:
    """`offset`; raises ConfigError where it is none."""
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise ConfigError(
            f"{offset!r} is no offset of {partition!r}: offsets count from 0; "
            "for the ends use seek_to_beginning and seek_to_end"
        )
    return offset


def checked_topics(topics: Topics) -> frozenset[str] | re.Pattern[str]:
    """The names, or the pattern; raises ConfigError where there is nothing to subscribe to."""
    if isinstance(topics, re.Pattern):
        if not isinstance(topics.pattern, str):
            raise ConfigError(
                f"cannot subscribe to {topics!r}: topics are text, so write the pattern as text"
            )
        return topics
    names = frozenset([topics] if isinstance(topics, str) else topics)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"cannot subscribe to {topics!r}: name at least one topic")
    return names


def re2_syntax(pattern: re.Pattern[str]) -> str:
    """The pattern as brokers take it, whose syntax is that of RE2; they tell what else in it they do not know.

    Raises ConfigError for a flag that RE2 does not have.
    """
    if pattern.flags & re.VERBOSE:
        raise ConfigError(
            f"cannot subscribe to {pattern.pattern!r}: in the consumer protocol the broker matches patterns, and "
            "knows no re.VERBOSE; write the pattern in one line"
        )
    letters = ((re.IGNORECASE, "i"), (re.MULTILINE, "m"), (re.DOTALL, "s"))
    flags = "".join(letter for flag, letter in letters if pattern.flags & flag)
    # an empty expression would mean none
    return (f"(?{flags})" if flags else "") + (pattern.pattern or "(?:)")


def checked_group(group_id: object) -> str:
    """`group_id`; raises ConfigError where it is none."""
    if not isinstance(group_id, str) or not 0 < len(group_id.encode()) <= GROUP_ID_LENGTH_MAX:
        raise ConfigError(f"group_id is {group_id!r}; it must be a text that is not empty")
    return group_id


def checked_offsets(offsets: Mapping[Partition, Offset]) -> dict[TopicPartition, CommittedOffset]:
    """What is to be committed; raises ConfigError where it is no offset of a partition."""
    checked = {}
    for one, offset in offsets.items():
        committed = offset if isinstance(offset, CommittedOffset) else CommittedOffset(offset)
        checked_offset(one, committed.offset)
        checked[checked_partition(one)] = committed
    return checked
