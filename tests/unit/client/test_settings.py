"""What a producer refuses to be told."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog import Producer
from fastlog.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"acks": 5}, "use 'all', 1 or 0"),
        ({"compression": "rar"}, "'zstd'"),
        ({"acks": 1, "idempotence": True}, "needs acks='all'"),
        ({"max_in_flight": 6}, "needs idempotence=False"),
        ({"batch_bytes": 10}, "batch_bytes=10 is too small"),
        ({"batch_bytes": 2_000_000}, "more than max_request_bytes"),
        ({"buffer_bytes": 100_000}, "at least one batch"),
        ({"delivery_timeout_ms": 1000}, "at least linger_ms"),
        ({"partitioner": "round"}, "'murmur2'"),
        ({"linger_ms": -1}, "linger_ms=-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Producer("127.0.0.1:9092", **settings)
