"""Which names a topic may have."""

from __future__ import annotations

import re

OFFSETS_TOPIC = "__consumer_offsets"
"""Where groups and their offsets are kept."""
INTERNAL_TOPICS = (OFFSETS_TOPIC, "__transaction_state")
METADATA_TOPIC = "__cluster_metadata"
"""The log of Kafka's controllers (KRaft): no topic, and none may be called so."""
NAME_LENGTH_MAX = 249
_NAME = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)


def why_invalid(name: str) -> str | None:
    """Why `name` is no topic name, or None when it is one. The rule is Kafka's."""
    if not name:
        return "a topic name is not empty"
    if name in (".", ".."):
        return f"{name!r} is no topic name"
    if len(name) > NAME_LENGTH_MAX:
        return f"a topic name has at most {NAME_LENGTH_MAX} characters, this one has {len(name)}"
    if not _NAME.fullmatch(name):
        return f"topic name {name!r} has other characters than letters, digits, '.', '_' and '-'"
    return None


def is_internal(name: str) -> bool:
    """Whether a topic of that name is one of Kafka's own."""
    return name in INTERNAL_TOPICS


def collision_key(name: str) -> str:
    """Equal for names that Kafka holds for the same, since its metrics write a dot as an underscore."""
    return name.replace(".", "_")
