"""A distributed commit log that speaks Kafka's protocol.

The public names: Producer, Column, Consumer, TopicPartition, CommittedOffset, Admin, Record, Broker and
`fastlog.errors`. They are imported when they are first used, so that `import fastlog` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlog.broker.embedded import Broker as Broker
    from fastlog.client.admin import Admin as Admin
    from fastlog.client.committed_offset import CommittedOffset as CommittedOffset
    from fastlog.client.consumer import Consumer as Consumer
    from fastlog.client.consumer import TopicPartition as TopicPartition
    from fastlog.client.producer import BulkDelivery as BulkDelivery
    from fastlog.client.producer import BulkMetadata as BulkMetadata
    from fastlog.client.producer import Producer as Producer
    from fastlog.client.producer import RecordMetadata as RecordMetadata
    from fastlog.native._column import Column as Column
    from fastlog.native._records import Record as Record
    from fastlog.native._sending import Delivery as Delivery

__version__ = "0.1.0"

_HOMES = {
    "Admin": "fastlog.client.admin",
    "Broker": "fastlog.broker.embedded",
    "BulkDelivery": "fastlog.client.producer",
    "BulkMetadata": "fastlog.client.producer",
    "Column": "fastlog.native._column",
    "CommittedOffset": "fastlog.client.committed_offset",
    "Consumer": "fastlog.client.consumer",
    "Delivery": "fastlog.native._sending",
    "Producer": "fastlog.client.producer",
    "Record": "fastlog.native._records",
    "RecordMetadata": "fastlog.client.producer",
    "TopicPartition": "fastlog.client.consumer",
    "errors": "fastlog.errors",
}

__all__ = [
    "Admin",
    "Broker",
    "BulkDelivery",
    "BulkMetadata",
    "Column",
    "CommittedOffset",
    "Consumer",
    "Delivery",
    "Producer",
    "Record",
    "RecordMetadata",
    "TopicPartition",
    "__version__",
    "errors",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastlog' has no attribute {name!r}")
    module = importlib.import_module(home)
    return module if name == "errors" else getattr(module, name)
