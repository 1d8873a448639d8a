"""The cluster image: what answers change, and what stays known."""

from __future__ import annotations

import pytest

from fastlog.client.addresses import parse_address, parse_bootstrap
from fastlog.client.backoff import Backoff
from fastlog.client.metadata import ClusterImage, merge
from fastlog.errors import ConfigError
from fastlog.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

ID = bytes(range(16))


def answer(leader: int, epoch: int, *, topic_id: bytes = ID, error_code: int = 0) -> MetadataResponse:
    partition = MetadataResponsePartition(
        partition_index=0, leader_id=leader, leader_epoch=epoch, error_code=error_code
    )
    return MetadataResponse(
        cluster_id="c",
        brokers=[
            MetadataResponseBroker(node_id=1, host="a", port=1, zmq_endpoint="a:2"),
            MetadataResponseBroker(node_id=2, host="b", port=1),
        ],
        topics=[MetadataResponseTopic(name="t", topic_id=topic_id, partitions=[partition])],
    )


def test_brokers_come_with_their_zeromq_endpoints() -> None:
    image = merge(ClusterImage(), answer(1, 0), ["t"])
    assert (image.brokers[1].zmq_endpoint, image.brokers[2].zmq_endpoint) == ("a:2", None)
    assert image.leader("t", 0) == 1


def test_an_older_leader_epoch_does_not_replace_a_newer_one() -> None:
    image = merge(ClusterImage(), answer(1, 5), ["t"])
    assert merge(image, answer(2, 4), ["t"]).leader("t", 0) == 1
    assert merge(image, answer(2, 6), ["t"]).leader("t", 0) == 2


def test_a_topic_that_was_made_anew_starts_with_a_low_epoch() -> None:
    image = merge(ClusterImage(), answer(1, 5), ["t"])
    assert merge(image, answer(2, 0, topic_id=bytes(16)), ["t"]).leader("t", 0) == 2


def test_no_leader_is_known_while_one_is_elected_or_where_it_is_no_broker() -> None:
    assert merge(ClusterImage(), answer(1, 0, error_code=5), ["t"]).leader("t", 0) == -1
    assert merge(ClusterImage(), answer(9, 0), ["t"]).leader("t", 0) == -1
    assert ClusterImage().leader("t", 0) == -1
    assert merge(ClusterImage(), answer(1, 0), ["t"]).leader("t", 7) == -1


def test_an_index_beyond_the_number_of_partitions_named_takes_no_memory() -> None:
    response = answer(1, 0)
    named = [0, 2**31 - 1, -1, -(2**31)]
    response.topics[0].partitions = [
        MetadataResponsePartition(partition_index=index, leader_id=1, leader_epoch=0) for index in named
    ]
    image = merge(merge(ClusterImage(), answer(1, 0), ["t"]), response, ["t"])
    assert [one.index for one in image.topics["t"].partitions] == [0, 1, 2, 3]
    assert [image.leader("t", index) for index in range(4)] == [1, -1, -1, -1]


def test_an_answer_about_some_topics_keeps_the_others_and_one_about_all_does_not() -> None:
    image = merge(ClusterImage(), answer(1, 0), ["t"])
    empty = MetadataResponse(brokers=[])
    assert "t" in merge(image, empty, []).topics
    assert "t" not in merge(image, empty, None).topics


def test_addresses_are_read_as_users_write_them() -> None:
    assert parse_bootstrap("a:1, b:2") == [("a", 1), ("b", 2)]
    assert parse_bootstrap(["a:1", "[::1]:2"]) == [("a", 1), ("::1", 2)]
    for text in ("a", "a:", ":1", "a:x", "a:0", "a:70000"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            parse_address(text)
    with pytest.raises(ConfigError, match="empty"):
        parse_bootstrap(" ,")


def test_back_off_doubles_up_to_its_bound_with_some_jitter() -> None:
    middle = Backoff(100, 1000, lambda: 0.5)
    assert [middle.delay_ms(attempt) for attempt in (1, 2, 3, 4, 5, 500)] == [100, 200, 400, 800, 1000, 1000]
    assert Backoff(100, 1000, lambda: 0).delay_ms(1) == 80
    assert Backoff(100, 1000, lambda: 1).delay_ms(1) == pytest.approx(120)
