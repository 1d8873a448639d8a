"""The highest version of each API that this client speaks; what both sides know is negotiated per connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import UnsupportedVersionError
from fastlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from collections.abc import Mapping

#: (lowest, highest). The native fetcher negotiates Fetch by itself; this one is for batches as they are.
SPOKEN: Mapping[int, tuple[int, int]] = {
    # from 10 on the answer names the new leader (KIP-951); from 13 on topics are named by their ids alone (KIP-516)
    ApiKey.PRODUCE: (3, 13),
    ApiKey.FETCH: (4, 13),
    ApiKey.LIST_OFFSETS: (1, 8),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: (2, 4),
    ApiKey.METADATA: (4, 12),
    # from 10 on OffsetCommit and OffsetFetch name topics by id
    ApiKey.OFFSET_COMMIT: (2, 9),
    ApiKey.OFFSET_FETCH: (2, 9),
    ApiKey.FIND_COORDINATOR: (1, 6),
    ApiKey.JOIN_GROUP: (2, 9),
    ApiKey.HEARTBEAT: (1, 4),
    ApiKey.LEAVE_GROUP: (1, 5),
    ApiKey.SYNC_GROUP: (1, 5),
    ApiKey.DESCRIBE_GROUPS: (1, 6),
    ApiKey.LIST_GROUPS: (1, 5),
    ApiKey.API_VERSIONS: (0, 3),
    ApiKey.CREATE_TOPICS: (2, 7),
    ApiKey.DELETE_TOPICS: (1, 6),
    ApiKey.DELETE_RECORDS: (0, 2),
    ApiKey.INIT_PRODUCER_ID: (0, 4),
    ApiKey.DESCRIBE_CONFIGS: (1, 4),
    ApiKey.ALTER_CONFIGS: (0, 2),
    ApiKey.CREATE_PARTITIONS: (0, 3),
    ApiKey.DELETE_GROUPS: (0, 3),
    ApiKey.ELECT_LEADERS: (0, 2),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: (0, 1),
    ApiKey.ALTER_REPLICA_LOG_DIRS: (1, 2),
    ApiKey.DESCRIBE_LOG_DIRS: (1, 4),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: (0, 1),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: (0, 0),
    ApiKey.OFFSET_DELETE: (0, 0),
    ApiKey.DESCRIBE_CLUSTER: (0, 0),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: (0, 1),
    ApiKey.CONSUMER_GROUP_DESCRIBE: (0, 1),
}


def common_version(api_key: int, offered: Mapping[int, tuple[int, int]], address: str) -> int:
    """The highest version of `api_key` that this client and the broker at `address` speak.

    Raises UnsupportedVersionError where there is none.
    """
    lowest, highest = SPOKEN[api_key]
    if api_key not in offered:
        raise UnsupportedVersionError(
            f"the broker at {address} does not know the request {ApiKey(api_key).name}"
        )
    offered_lowest, offered_highest = offered[api_key]
    version = min(highest, offered_highest)
    if version < max(lowest, offered_lowest):
        raise UnsupportedVersionError(
            f"the broker at {address} speaks {ApiKey(api_key).name} {offered_lowest}-{offered_highest}, "
            f"this client {lowest}-{highest}; use a client and a broker that share a version"
        )
    return version
