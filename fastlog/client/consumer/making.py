"""The parts of a consumer, made from its options."""

from __future__ import annotations

import random
import weakref
from typing import TYPE_CHECKING, TypeVar

from fastlog.client.backoff import Backoff
from fastlog.client.consumer.options import ConsumerOptions
from fastlog.errors import ConfigError
from fastlog.native._engine import Fetcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.consumer.assignment import Assignment
    from fastlog.client.consumer.driver import Driver
    from fastlog.client.consumer.options import OptionTypes
    from fastlog.client.consumer.topic_partition import TopicPartition
    from fastlog.client.group.driver import GroupDriver
    from fastlog.client.group.listeners import Listeners
    from fastlog.client.group.member import GroupMember
    from fastlog.client.group.session import GroupSession

Result = TypeVar("Result")


def make_options(options: OptionTypes) -> ConsumerOptions:
    """The options of a consumer; raises ConfigError for one that does not exist or does not fit."""
    unknown = sorted(set(options) - set(ConsumerOptions.__slots__))
    if unknown:
        known = ", ".join(sorted(ConsumerOptions.__slots__))
        raise ConfigError(f"a consumer has no option {unknown[0]!r}; it has {known}")
    return ConsumerOptions(**options)


def make_fetcher(options: ConsumerOptions) -> Fetcher:
    """The native fetcher for these options."""
    return Fetcher(
        client_id=options.client_id,
        rack=options.rack,
        fetch_min_bytes=options.fetch_min_bytes,
        fetch_max_bytes=options.fetch_max_bytes,
        max_partition_fetch_bytes=options.max_partition_fetch_bytes,
        fetch_max_wait_ms=options.fetch_max_wait_ms,
        read_committed=options.read_committed,
        check_crcs=options.check_crcs,
        prefetch_bytes=options.prefetch_bytes,
        connect_timeout_ms=options.connect_timeout_ms,
        request_timeout_ms=options.request_timeout_ms,
        reconnect_backoff_ms=options.retry_backoff_ms,
        reconnect_backoff_max_ms=options.retry_backoff_max_ms,
    )


def make_group(
    group_id: str,
    options: ConsumerOptions,
    assignment: Assignment,
    driver: Driver,
    handed_out: Callable[[], dict[TopicPartition, int]],
    dropped: Callable[[], None],
    listeners: Listeners,
) -> tuple[GroupSession, GroupDriver]:
    """The consumer's part of a group, and the thread behind it; see GroupSession."""
    # a consumer without a group needs none of these
    from fastlog.client.group.driver import GroupDriver
    from fastlog.client.group.links import Links
    from fastlog.client.group.session import GroupSession

    backoff = Backoff(options.retry_backoff_ms, options.retry_backoff_max_ms, random.random)
    membership = make_member(group_id, options, backoff)
    session = GroupSession(
        options=options,
        assignment=assignment,
        driver=driver,
        membership=membership,
        handed_out=handed_out,
        dropped=dropped,
        listeners=listeners,
    )
    group = GroupDriver(
        group_id=group_id,
        membership=membership,
        backoff=backoff,
        links=Links(
            client_id=options.client_id,
            connect_timeout_ms=options.connect_timeout_ms,
            request_timeout_ms=options.request_timeout_ms,
        ),
        brokers=driver.brokers,
        application=session,
    )
    session.bind(group)
    assignment.of_group = True
    driver.on_image = session.on_image
    return session, group


def make_member(group_id: str, options: ConsumerOptions, backoff: Backoff) -> GroupMember:
    """A member of the protocol that the options name."""
    if options.group_protocol == "consumer":
        import uuid

        from fastlog.client.group.consumer_membership import ConsumerGroupSettings, ConsumerMembership

        return ConsumerMembership(
            ConsumerGroupSettings(
                group_id=group_id,
                member_id=str(uuid.uuid4()),
                group_instance_id=options.group_instance_id,
                max_poll_interval_ms=options.max_poll_interval_ms,
                remote_assignor=options.group_remote_assignor,
                rack=options.rack,
            ),
            backoff,
        )
    from fastlog.client.group.membership import GroupSettings, Membership
    from fastlog.state.assignors import ASSIGNORS

    return Membership(
        GroupSettings(
            group_id=group_id,
            group_instance_id=options.group_instance_id,
            session_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=options.heartbeat_interval_ms,
            max_poll_interval_ms=options.max_poll_interval_ms,
            assignors=[ASSIGNORS[name] for name in options.strategies],
            rack=options.rack,
        ),
        backoff,
    )


def weak_call(method: Callable[[], Result], otherwise: Result) -> Callable[[], Result]:
    """Calls a bound method without keeping its object alive; gives `otherwise` once that is gone."""
    reference = weakref.WeakMethod(method)

    def call() -> Result:
        alive = reference()
        return otherwise if alive is None else alive()

    return call


def close_dropped(driver: Driver, group: GroupDriver | None, timeout_ms: float) -> None:
    """Ends the threads of a consumer that was dropped without close."""
    if group is not None:
        group.close(timeout_ms)
    driver.close(timeout_ms)
