"""The APIs of groups and committed offsets, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api.groups import (
    consumer_group_describe,
    consumer_group_heartbeat,
    delete_groups,
    describe_groups,
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_delete,
    offset_fetch,
    sync_group,
)

if TYPE_CHECKING:
    from fastlog.broker.control_api import ControlApi

GROUP_APIS: tuple[ControlApi, ...] = (
    find_coordinator.API,
    join_group.API,
    sync_group.API,
    heartbeat.API,
    leave_group.API,
    offset_commit.API,
    offset_fetch.API,
    offset_delete.API,
    describe_groups.API,
    list_groups.API,
    delete_groups.API,
    consumer_group_heartbeat.API,
    consumer_group_describe.API,
)
"""What the coordinator of groups serves."""
