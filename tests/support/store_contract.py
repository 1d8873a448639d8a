"""What every MetadataStore keeps; a test class for each implementation inherits this one.

A subclass gives a fixture `store`, and a fixture `reopen` that closes it and opens it again as another process would.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from fastlog.ports import (
    AlreadyExistsError,
    ConfigResource,
    Conflict,
    MetadataStore,
    NotFoundError,
    PartitionKey,
    PartitionState,
    PartitionWrite,
    StoredConfigs,
    Topic,
    VersionConflictError,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Reopen = "Callable[[], MetadataStore]"


def state(*, leader: int = 1, version: int = 0) -> PartitionState:
    """A partition led by `leader` alone."""
    return PartitionState(replicas=(leader,), leader=leader, leader_epoch=0, isr=(leader,), version=version)


def topic(name: str, partitions: int = 2, topic_id: UUID | None = None) -> Topic:
    """A topic with fresh partitions."""
    return Topic(name=name, topic_id=topic_id or uuid4(), partitions=(state(),) * partitions)


class StoreContract:
    """The tests."""

    def test_the_cluster_id_is_made_once_and_kept(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        cluster_id = store.cluster_id()
        assert len(cluster_id) == 22
        assert store.cluster_id() == cluster_id
        assert reopen().cluster_id() == cluster_id

    def test_topics_survive_with_ids_partitions_and_configs(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        orders, clicks = topic("orders", 3), topic("clicks")
        store.create_topic(orders, {"retention.ms": "1000"})
        store.create_topic(clicks, {})
        again = reopen()
        assert again.topics() == [clicks, orders]
        assert again.configs()[ConfigResource("topic", "orders")].values == {"retention.ms": "1000"}

    def test_creating_again_with_the_same_id_changes_nothing(self, store: MetadataStore) -> None:
        orders = topic("orders")
        store.create_topic(orders, {})
        store.create_topic(orders, {})
        assert store.topics() == [orders]

    def test_a_name_is_taken_once(self, store: MetadataStore) -> None:
        first = topic("orders")
        store.create_topic(first, {"retention.ms": "1"})
        with pytest.raises(AlreadyExistsError):
            store.create_topic(topic("orders"), {})
        assert store.topics() == [first]
        assert store.configs()[ConfigResource("topic", "orders")].values == {"retention.ms": "1"}

    def test_a_deleted_topic_is_gone_and_its_deletion_is_noted_until_forgotten(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        orders = topic("orders", 3)
        store.create_topic(orders, {"retention.ms": "1"})
        store.delete_topic(orders.topic_id)
        again = reopen()
        assert again.topics() == []
        assert again.configs() == {}
        (deletion,) = again.deletions()
        assert (deletion.name, deletion.topic_id, deletion.partition_count) == ("orders", orders.topic_id, 3)
        again.delete_topic(orders.topic_id)
        again.forget_deletion(orders.topic_id)
        again.forget_deletion(orders.topic_id)
        assert again.deletions() == []

    def test_an_id_is_never_used_again(self, store: MetadataStore) -> None:
        orders = topic("orders")
        store.create_topic(orders, {})
        store.delete_topic(orders.topic_id)
        store.forget_deletion(orders.topic_id)
        with pytest.raises(AlreadyExistsError):
            store.create_topic(orders, {})
        store.create_topic(topic("orders"), {})

    def test_deleting_what_never_was(self, store: MetadataStore) -> None:
        with pytest.raises(NotFoundError):
            store.delete_topic(uuid4())

    def test_partitions_are_added_behind_those_that_are_there(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        orders = topic("orders", 1)
        store.create_topic(orders, {})
        grown = store.add_partitions(orders.topic_id, 1, [state(), state()])
        assert len(grown.partitions) == 3
        assert reopen().topics() == [grown]

    def test_adding_partitions_to_another_count_than_read_is_refused(self, store: MetadataStore) -> None:
        orders = topic("orders", 2)
        store.create_topic(orders, {})
        with pytest.raises(VersionConflictError):
            store.add_partitions(orders.topic_id, 1, [state()])
        with pytest.raises(NotFoundError):
            store.add_partitions(uuid4(), 1, [state()])
        assert store.topics() == [orders]

    def test_a_partition_state_is_replaced_only_at_the_version_read(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        orders = topic("orders", 2)
        store.create_topic(orders, {})
        fresh = store.update_partition(orders.topic_id, 1, state(leader=2, version=0))
        assert fresh.version == 1
        with pytest.raises(VersionConflictError):
            store.update_partition(orders.topic_id, 1, state(leader=3, version=0))
        assert reopen().topics()[0].partitions == (state(), state(leader=2, version=1))

    def test_updating_a_partition_that_is_not_there(self, store: MetadataStore) -> None:
        orders = topic("orders", 1)
        store.create_topic(orders, {})
        with pytest.raises(NotFoundError):
            store.update_partition(orders.topic_id, 1, state())

    def test_many_partitions_are_written_each_at_the_version_read(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        orders, clicks, gone = topic("orders", 3), topic("clicks", 1), topic("gone", 1)
        for each in (orders, clicks, gone):
            store.create_topic(each, {})
        store.update_partition(orders.topic_id, 1, state(leader=2))
        store.delete_topic(gone.topic_id)
        keys = [PartitionKey(orders.topic_id, index) for index in range(4)]
        keys += [PartitionKey(gone.topic_id, 0), PartitionKey(clicks.topic_id, 0)]
        results = store.update_partitions([PartitionWrite(key, state(leader=7)) for key in keys])
        stored = state(leader=2, version=1)
        done, missing = Written(1), Conflict(None)
        assert results == [done, Conflict(stored), done, missing, missing, done]
        fresh = state(leader=7, version=1)
        expected = [fresh, stored, fresh, None, None, fresh]
        assert store.read_partitions(keys) == expected
        assert reopen().read_partitions(keys) == expected

    def test_writing_no_partition_at_all(self, store: MetadataStore) -> None:
        assert store.update_partitions([]) == []
        assert store.read_partitions([]) == []

    def test_a_topic_made_anew_is_not_hit_by_writes_for_its_past(self, store: MetadataStore) -> None:
        old, new = topic("orders", 1), topic("orders", 1)
        store.create_topic(old, {})
        store.delete_topic(old.topic_id)
        store.create_topic(new, {})
        late = PartitionWrite(PartitionKey(old.topic_id, 0), state(leader=9))
        assert store.update_partitions([late]) == [Conflict(None)]
        assert store.topics() == [new]

    def test_more_partitions_than_one_request_holds(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        many = topic("many", 450)
        store.create_topic(many, {"retention.ms": "1"})
        grown = store.add_partitions(many.topic_id, 450, [state()] * 250)
        assert len(grown.partitions) == 700
        keys = [PartitionKey(many.topic_id, index) for index in range(700)]
        results = store.update_partitions([PartitionWrite(key, state(leader=3)) for key in keys])
        assert results == [Written(1)] * 700
        again = reopen()
        assert again.topics()[0].partitions == (state(leader=3, version=1),) * 700
        again.delete_topic(many.topic_id)
        assert again.topics() == []
        assert [each.partition_count for each in again.deletions()] == [700]
        again.create_topic(topic("many", 1), {})

    def test_a_snapshot_is_all_of_it(self, store: MetadataStore) -> None:
        orders, clicks, gone = topic("orders"), topic("clicks"), topic("gone")
        for each in (orders, clicks, gone):
            store.create_topic(each, {})
        store.delete_topic(gone.topic_id)
        store.put_configs(ConfigResource("broker", ""), {"num.partitions": "3"}, 0)
        snapshot = store.snapshot()
        assert snapshot.topics == (clicks, orders)
        assert snapshot.configs == store.configs()
        assert snapshot.configs[ConfigResource("broker", "")] == StoredConfigs({"num.partitions": "3"}, 1)
        assert list(snapshot.deletions) == store.deletions()
        assert snapshot.broken == ()

    def test_configs_are_replaced_only_at_the_version_read(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        broker = ConfigResource("broker", "1")
        assert store.put_configs(broker, {"num.partitions": "3"}, 0) == 1
        with pytest.raises(VersionConflictError):
            store.put_configs(broker, {"num.partitions": "4"}, 0)
        assert store.put_configs(broker, {"num.partitions": "4"}, 1) == 2
        assert reopen().configs() == {broker: StoredConfigs({"num.partitions": "4"}, 2)}

    def test_configs_of_groups_whatever_they_are_called(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        groups = [ConfigResource("group", name) for name in ("billing", "a/b", ".", "..", "%2E", "ü \n")]
        for group in groups:
            assert store.put_configs(group, {"share.isolation.level": "read_committed"}, 0) == 1
        assert store.put_configs(groups[0], {}, 1) == 2
        expected = {it: StoredConfigs({"share.isolation.level": "read_committed"}, 1) for it in groups}
        assert reopen().configs() == {**expected, groups[0]: StoredConfigs({}, 2)}

    def test_configs_of_a_topic_that_is_not_there(self, store: MetadataStore) -> None:
        with pytest.raises(NotFoundError):
            store.put_configs(ConfigResource("topic", "orders"), {}, 0)

    def test_producer_ids_are_never_handed_out_twice(
        self, store: MetadataStore, reopen: Callable[[], MetadataStore]
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            blocks = list(pool.map(store.allocate_producer_ids, [100] * 40))
        blocks.append(reopen().allocate_producer_ids(100))
        ids = [producer_id for block in blocks for producer_id in block]
        assert len(ids) == len(set(ids)) == 4100
        assert min(ids) >= 0
