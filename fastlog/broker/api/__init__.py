"""The APIs that the control plane answers. What handles the requests of one is a file named as it.

Those files are loaded by `load_all`, or one with the first request for it.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module

from fastlog.broker.control_api import ControlApi, Handlers, Lane
from fastlog.protocol.api import ApiKey


@cache
def _load(package: str, key: ApiKey) -> Handlers:
    handlers: Handlers = import_module(f"{package}.{key.name.lower()}").HANDLERS
    return handlers


def _api(key: ApiKey, first: int, last: int, lane: Lane, package: str = __name__) -> ControlApi:
    return ControlApi(key=key, versions=(first, last), lane=lane, load=partial(_load, package, key))


def _of_groups(key: ApiKey, first: int, last: int, lane: Lane = Lane.GROUPS) -> ControlApi:
    return _api(key, first, last, lane, f"{__name__}.groups")


APIS: tuple[ControlApi, ...] = (
    _api(ApiKey.METADATA, 0, 13, Lane.CHANGES),
    _api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, 0, Lane.ASKS),
    _api(ApiKey.DESCRIBE_CLUSTER, 0, 2, Lane.ASKS),
    _api(ApiKey.CREATE_TOPICS, 2, 7, Lane.CHANGES),
    _api(ApiKey.DELETE_TOPICS, 1, 6, Lane.CHANGES),
    _api(ApiKey.CREATE_PARTITIONS, 0, 3, Lane.CHANGES),
    _api(ApiKey.DELETE_RECORDS, 0, 2, Lane.ASKS),
    _api(ApiKey.DESCRIBE_CONFIGS, 1, 4, Lane.ASKS),
    _api(ApiKey.ALTER_CONFIGS, 0, 2, Lane.CHANGES),
    _api(ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, 1, Lane.CHANGES),
    _api(ApiKey.LIST_CONFIG_RESOURCES, 0, 1, Lane.ASKS),
    _api(ApiKey.DESCRIBE_LOG_DIRS, 1, 5, Lane.ASKS),
    _api(ApiKey.INIT_PRODUCER_ID, 0, 5, Lane.ASKS),
    _api(ApiKey.DESCRIBE_PRODUCERS, 0, 0, Lane.ASKS),
    _api(ApiKey.ELECT_LEADERS, 0, 2, Lane.CHANGES),
    _api(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0, 1, Lane.CHANGES),
    _api(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, 0, Lane.ASKS),
    _of_groups(ApiKey.FIND_COORDINATOR, 0, 6, Lane.ASKS),
    _of_groups(ApiKey.JOIN_GROUP, 0, 9),
    _of_groups(ApiKey.SYNC_GROUP, 0, 5),
    _of_groups(ApiKey.HEARTBEAT, 0, 4),
    _of_groups(ApiKey.LEAVE_GROUP, 0, 5),
    _of_groups(ApiKey.CONSUMER_GROUP_HEARTBEAT, 0, 1),
    _of_groups(ApiKey.CONSUMER_GROUP_DESCRIBE, 0, 1),
    _of_groups(ApiKey.OFFSET_COMMIT, 2, 10),
    _of_groups(ApiKey.OFFSET_FETCH, 1, 10),
    _of_groups(ApiKey.OFFSET_DELETE, 0, 0),
    _of_groups(ApiKey.DESCRIBE_GROUPS, 0, 6),
    _of_groups(ApiKey.LIST_GROUPS, 0, 5),
    _of_groups(ApiKey.DELETE_GROUPS, 0, 2),
)
"""Each with its first and last version, both inclusive, and with the thread that handles its requests."""


def load_all() -> None:
    """Loads what handles them. Blocks for some 50 ms."""
    for api in APIS:
        api.load()
