"""Reading topics: each consistent in itself, though it lies in many znodes that others write meanwhile."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from kazoo.exceptions import NoNodeError

from fastlog.cluster.zookeeper.znodes import (
    ConfigZnode,
    DeletionZnode,
    PartitionZnode,
    TopicIdZnode,
    TopicZnode,
    decode,
    decode_topic,
    to_state,
)
from fastlog.ports import (
    Broken,
    ConfigResource,
    CorruptStoreError,
    Deletion,
    PartitionState,
    Snapshot,
    StoredConfigs,
    StoreUnavailableError,
    Topic,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kazoo.protocol.states import ZnodeStat

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.paths import Paths

#: a topic that changes while it is read is read again; more often than this nobody changes one
READS_MAX = 20
CONFIG_FIRST_VERSION = 1


class TopicRead(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it was at one moment."""

    znode: TopicZnode
    version: int
    """The version of the topic's own znode."""
    states: dict[int, PartitionState]
    """Those that were asked for and that the topic has."""
    configs: StoredConfigs | None
    """None where a topic that is being made or removed has none."""


class _Started(msgspec.Struct, frozen=True):
    """A topic whose own znode was read, and nothing below it yet."""

    name: str
    znode: TopicZnode
    stat: tuple[int, int]
    partitions: tuple[int, ...]


def identity(stat: ZnodeStat) -> tuple[int, int]:
    """What tells a znode at one version from every other: also from a later one of the same path and version."""
    return stat.czxid, stat.version


def read_topics(
    connection: ZooKeeperConnection, wanted: Mapping[str, Collection[int] | None]
) -> dict[str, TopicRead | Broken]:
    """The topics in `wanted`, with the partitions that it names, or all for None. What is not there is left out.

    A partition's replicas lie in the topic's znode, its state in its own, and one transaction may change both. So the
    topic's znode is read once more after its partitions: in one session reads are answered in order.
    """
    found: dict[str, TopicRead | Broken] = {}
    left = dict(wanted)
    for _ in range(READS_MAX):
        started = _start(connection, left, found)
        left = _finish(connection, started, left, found)
        if not left:
            return found
    raise StoreUnavailableError(f"the topics {sorted(left)} change faster than they can be read")


def _start(
    connection: ZooKeeperConnection,
    wanted: Mapping[str, Collection[int] | None],
    found: dict[str, TopicRead | Broken],
) -> list[_Started]:
    paths, started = connection.paths, []
    names = sorted(wanted)
    answers = connection.get_all([paths.topic(name) for name in names])
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, NoNodeError):
            continue
        data, stat = answer
        try:
            znode = decode_topic(data, paths.topic(name))
        except CorruptStoreError as error:
            found[name] = Broken(paths.topic(name), str(error), name)
            continue
        asked = wanted[name]
        indexes = znode.partitions if asked is None else set(asked) & set(znode.partitions)
        started.append(_Started(name, znode, identity(stat), tuple(sorted(indexes))))
    return started


def _finish(
    connection: ZooKeeperConnection,
    started: list[_Started],
    wanted: Mapping[str, Collection[int] | None],
    found: dict[str, TopicRead | Broken],
) -> dict[str, Collection[int] | None]:
    """Reads what is below the topics; answers those that changed meanwhile and are to be read again."""
    paths = connection.paths

    listed: list[str] = []
    for each in started:
        listed += (paths.partition(each.name, index) for index in each.partitions)
        listed += (paths.topic_config(each.name), paths.topic(each.name))
    answers = iter(connection.get_all(listed))
    again: dict[str, Collection[int] | None] = {}
    for each in started:
        partitions = [next(answers) for _ in each.partitions]
        config, last = next(answers), next(answers)
        if isinstance(last, NoNodeError) or identity(last[1]) != each.stat:
            again[each.name] = wanted[each.name]
        else:
            found[each.name] = _topic_read(paths, each, partitions, config)
    return again


def _topic_read(
    paths: Paths,
    started: _Started,
    partitions: list[tuple[bytes, ZnodeStat] | NoNodeError],
    config: tuple[bytes, ZnodeStat] | NoNodeError,
) -> TopicRead | Broken:
    name, znode = started.name, started.znode
    if znode.unfinished:
        return TopicRead(znode=znode, version=started.stat[1], states={}, configs=None)
    states, path = {}, paths.topic_config(name)
    try:
        # without its settings a topic would be kept by the default retention, and lose records
        configs = _stored_configs(config, path)
        for index, answer in zip(started.partitions, partitions, strict=True):
            path = paths.partition(name, index)
            data, stat = _present(answer, path)
            states[index] = to_state(data, stat.version, znode, index, path)
    except CorruptStoreError as error:
        return Broken(path, str(error), name)
    return TopicRead(znode=znode, version=started.stat[1], states=states, configs=configs)


def _present(answer: tuple[bytes, ZnodeStat] | NoNodeError, path: str) -> tuple[bytes, ZnodeStat]:
    if isinstance(answer, NoNodeError):
        raise CorruptStoreError(f"the znode {path} is missing: restore it, or delete the topic")
    return answer


def _stored_configs(answer: tuple[bytes, ZnodeStat] | NoNodeError, path: str) -> StoredConfigs:
    data, stat = _present(answer, path)
    return StoredConfigs(decode(data, ConfigZnode, path).config, stat.version + CONFIG_FIRST_VERSION)


def read_snapshot(connection: ZooKeeperConnection) -> tuple[Snapshot, dict[str, TopicRead]]:
    """All that the store holds; beside it the topics as they were read, by name."""
    paths = connection.paths
    names = connection.children(paths.topics)
    reads = read_topics(connection, dict.fromkeys(names))
    _mark_twins(connection, reads)
    broken = [each for each in reads.values() if isinstance(each, Broken)]
    broken += _missing(connection, reads)
    whole = {
        name: read
        for name, read in reads.items()
        if isinstance(read, TopicRead) and not read.znode.unfinished
    }
    configs = {ConfigResource("topic", name): _known(read.configs) for name, read in whole.items()}
    configs |= _other_configs(connection, broken)
    snapshot = Snapshot(
        topics=tuple(to_topic(name, read) for name, read in sorted(whole.items())),
        configs=configs,
        deletions=read_deletions(connection, broken),
        broken=tuple(broken),
    )
    return snapshot, whole


def _mark_twins(connection: ZooKeeperConnection, reads: dict[str, TopicRead | Broken]) -> None:
    """Of topics with one id, made by copying znodes, only the one stays that the id's own znode names."""
    names: dict[UUID, list[str]] = defaultdict(list)
    for name, read in reads.items():
        if isinstance(read, TopicRead):
            names[read.znode.topic_id].append(name)
    twins = {topic_id: each for topic_id, each in names.items() if len(each) > 1}
    owners = read_names(connection, list(twins))
    for topic_id, each in twins.items():
        for name in each:
            if owners.get(topic_id) != name:
                path = connection.paths.topic(name)
                reason = f"the znode {path} has the id of another topic, {topic_id}: remove the copy by hand"
                reads[name] = Broken(path, reason, name)


def _missing(connection: ZooKeeperConnection, reads: Mapping[str, TopicRead | Broken]) -> list[Broken]:
    """Topics that live by the znodes of their ids, and have none of their own: nobody deleted them but by hand."""
    paths, missing = connection.paths, []
    here = {str(read.znode.topic_id) for read in reads.values() if isinstance(read, TopicRead)}
    try:
        ids = connection.children(paths.topic_ids)
    except CorruptStoreError as error:
        return [Broken(paths.topic_ids, str(error))]
    listed = [f"{paths.topic_ids}/{each}" for each in ids if each not in here]
    for path, answer in zip(listed, connection.get_all(listed), strict=True):
        if isinstance(answer, NoNodeError):
            continue
        try:
            znode = decode(answer[0], TopicIdZnode, path)
        except CorruptStoreError as error:
            missing.append(Broken(path, str(error)))
            continue
        if not znode.deleted and znode.topic not in reads:
            reason = (
                f"the znode {paths.topic(znode.topic)} is missing, and by {path} the topic lives: restore the first, "
                "or remove the second too to give the topic up"
            )
            missing.append(Broken(paths.topic(znode.topic), reason, znode.topic))
    return missing


def highest_controller_epoch(connection: ZooKeeperConnection) -> int:
    """The highest epoch of a controller that wrote a partition's state, 0 without one; garbage is passed over."""
    paths, listed = connection.paths, []
    for name in connection.children(paths.topics):
        # a topic that a hand made may have none
        with contextlib.suppress(CorruptStoreError):
            listed += [
                f"{paths.partitions(name)}/{each}" for each in connection.children(paths.partitions(name))
            ]
    highest = 0
    for path, answer in zip(listed, connection.get_all(listed), strict=True):
        if not isinstance(answer, NoNodeError):
            with contextlib.suppress(CorruptStoreError):
                highest = max(highest, decode(answer[0], PartitionZnode, path).controller_epoch)
    return highest


def read_names(connection: ZooKeeperConnection, ids: Sequence[UUID]) -> dict[UUID, str | Broken]:
    """The names of topics by id; those of deleted ones, and ids that never were, are left out."""
    paths = [connection.paths.topic_id(each) for each in ids]
    names: dict[UUID, str | Broken] = {}
    for topic_id, path, answer in zip(ids, paths, connection.get_all(paths), strict=True):
        if isinstance(answer, NoNodeError):
            continue
        try:
            znode = decode(answer[0], TopicIdZnode, path)
        except CorruptStoreError as error:
            names[topic_id] = Broken(path, str(error))
            continue
        if not znode.deleted:
            names[topic_id] = znode.topic
    return names


def _known(configs: StoredConfigs | None) -> StoredConfigs:
    # a whole topic has them, or it would be broken
    return configs or StoredConfigs({}, 0)


def to_topic(name: str, read: TopicRead) -> Topic:
    """A topic of which all partitions were read."""
    states = tuple(read.states[index] for index in range(len(read.znode.partitions)))
    return Topic(name=name, topic_id=read.znode.topic_id, partitions=states)


def _other_configs(
    connection: ZooKeeperConnection, broken: list[Broken]
) -> dict[ConfigResource, StoredConfigs]:
    """Those of brokers and groups."""
    paths = connection.paths
    brokers = {
        paths.broker_config(name): ConfigResource("broker", "" if name == "default" else name)
        for name in connection.children(paths.broker_configs)
    }
    groups = {
        f"{paths.group_configs}/{node}": ConfigResource("group", paths.group_of(node))
        for node in _group_nodes(connection)
    }
    found, configs = {**brokers, **groups}, {}
    for path, answer in zip(found, connection.get_all(list(found)), strict=True):
        if isinstance(answer, NoNodeError):
            continue
        try:
            configs[found[path]] = _stored_configs(answer, path)
        except CorruptStoreError as error:
            broken.append(Broken(path, str(error)))
    return configs


def _group_nodes(connection: ZooKeeperConnection) -> list[str]:
    paths = connection.paths
    # the folder of an older cluster is made with the first settings of a group
    is_there = paths.group_configs.rpartition("/")[2] in connection.children(paths.config)
    return connection.children(paths.group_configs) if is_there else []


def read_deletions(connection: ZooKeeperConnection, broken: list[Broken]) -> tuple[Deletion, ...]:
    """The deletions that are noted; garbage among them is added to `broken`, and nothing follows from it."""
    paths, found = connection.paths, []
    ids = connection.children(paths.deletions)
    listed = [f"{paths.deletions}/{each}" for each in ids]
    for text, path, answer in zip(ids, listed, connection.get_all(listed), strict=True):
        if isinstance(answer, NoNodeError):
            continue
        try:
            znode = decode(answer[0], DeletionZnode, path)
            topic_id = _id_in_name(text, path)
        except CorruptStoreError as error:
            broken.append(Broken(path, str(error)))
            continue
        found.append(
            Deletion(
                name=znode.topic,
                topic_id=topic_id,
                partition_count=znode.partitions,
                replicas=znode.replicas,
            )
        )
    return tuple(sorted(found, key=lambda each: (each.name, each.topic_id)))


def _id_in_name(text: str, path: str) -> UUID:
    try:
        topic_id = UUID(text)
    except ValueError:
        topic_id = UUID(int=0)
    # UUID takes more forms than the one whose znode is removed in the end
    if str(topic_id) != text or not topic_id.int:
        raise CorruptStoreError(f"the znode {path} is not named by a topic's id")
    return topic_id
