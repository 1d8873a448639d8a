"""What members want, by name and by pattern, and what that is among the topics that exist."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from fastlog.errors import InvalidRegularExpressionError
from fastlog.state.records import RegexValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import re2

    from fastlog.state.records import ConsumerMemberValue
    from fastlog.state.topics import Topics

    Regexes = Mapping[str, RegexValue]

# clients choose expressions: what one holds, and how many are kept compiled, has a bound
COMPILED_BYTES_MAX = 1 << 20
COMPILED_MAX = 64
# what fits into a record's key beside the group's id
REGEX_LENGTH_MAX = 4_096


@lru_cache(maxsize=COMPILED_MAX)
def compiled(regex: str) -> re2._Regexp:
    """The expression, of RE2's syntax; INVALID_REGULAR_EXPRESSION where it is none."""
    if len(regex) > REGEX_LENGTH_MAX:
        raise InvalidRegularExpressionError(
            f"SubscribedTopicRegex has {len(regex)} characters, at most {REGEX_LENGTH_MAX} are taken"
        )
    # imported when a member has a pattern: it takes 3 ms of a broker's start
    import re2

    options = re2.Options()
    # an expression that someone got wrong is answered, and no matter for standard error
    options.log_errors = False
    options.max_mem = COMPILED_BYTES_MAX
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidRegularExpressionError(
            f"SubscribedTopicRegex {regex!r} is not a valid regular expression of RE2: {text}"
        ) from None


def resolve(
    regexes: Iterable[str],
    known: Regexes,
    topics: Topics,
    may_see: Callable[[str], bool],
    *,
    is_stale: bool,
    wall_ms: int,
) -> dict[str, RegexValue]:
    """The topics that match each expression as a whole: as known, unless topics have changed or it is new."""
    found = {}
    for regex in sorted(set(regexes)):
        before = known.get(regex)
        if before is not None and not is_stale:
            found[regex] = before
            continue
        pattern = compiled(regex)
        names = tuple(sorted(it for it in topics.names() if pattern.fullmatch(it) and may_see(it)))
        if before is not None and before.topics == names:
            found[regex] = before
        else:
            found[regex] = RegexValue(names, 0 if before is None else before.version + 1, wall_ms)
    return found


def topics_of(said: ConsumerMemberValue, regexes: Regexes) -> frozenset[str]:
    """The names of the topics that a member wants, whether they exist or not."""
    matched = regexes.get(said.regex) if said.regex else None
    return frozenset(said.topics) if matched is None else frozenset((*said.topics, *matched.topics))


def metadata_hash(names: Iterable[str], topics: Topics) -> int:
    """A number that is another one when a topic comes, goes, is made anew or gets partitions; 0 for no topics."""
    digest = hashlib.blake2b(digest_size=8)
    is_empty = True
    for name in sorted(names):
        facts = topics.find(name)
        if facts is not None:
            digest.update(facts.topic_id + facts.partition_count.to_bytes(4, "big"))
            is_empty = False
    return 0 if is_empty else int.from_bytes(digest.digest(), "big", signed=True)
