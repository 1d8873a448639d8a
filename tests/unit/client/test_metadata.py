"""The cluster image: what answers change, and what stays known."""

from __future__ import annotations

import pytest

from fastlog.client.addresses import parse_address, parse_bootstrap
from fastlog.client.backoff import Backoff
from fastlog.client.leader_hint import LeaderHint, with_leader
from fastlog.client.metadata import PATIENCE_MS, BrokerAddress, ClusterImage, Metadata, merge
from fastlog.errors import ConfigError, NotReachableError
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


def hint(leader: int, epoch: int, *, partition: int = 0, node: BrokerAddress | None = None) -> LeaderHint:
    return LeaderHint("t", partition, leader, epoch, node)


def test_a_leader_that_is_named_is_taken_in_where_it_is_news() -> None:
    image = merge(ClusterImage(), answer(1, 5), ["t"])
    moved = with_leader(image, hint(2, 6))
    assert (moved.leader("t", 0), moved.topics["t"].partitions[0].leader_epoch) == (2, 6)
    assert image.leader("t", 0) == 1
    # and metadata that is older does not undo it
    assert merge(moved, answer(1, 5), ["t"]).leader("t", 0) == 2


@pytest.mark.parametrize(
    "told",
    [
        hint(2, 5),
        hint(2, 4),
        hint(2, -1),
        hint(-1, 9),
        hint(3, 9),
        hint(2, 9, partition=1),
        hint(2, 9, partition=-1),
    ],
    ids=[
        "known epoch",
        "old epoch",
        "no epoch",
        "no leader",
        "nowhere",
        "no partition",
        "negative partition",
    ],
)
def test_what_is_no_news_of_a_leader_changes_nothing(told: LeaderHint) -> None:
    image = merge(ClusterImage(), answer(1, 5), ["t"])
    assert with_leader(image, told) is image
    assert with_leader(ClusterImage(), told) == ClusterImage()


def test_a_leader_is_named_with_its_address() -> None:
    image = merge(ClusterImage(), answer(1, 5), ["t"])
    new = BrokerAddress(3, "c", 1, "rack")
    assert with_leader(image, hint(3, 6, node=new)).brokers[3] == new
    moved = BrokerAddress(2, "b", 99)
    assert with_leader(image, hint(2, 6, node=moved)).brokers[2] == moved
    assert with_leader(image, hint(3, 6, node=BrokerAddress(3, "c", 65_536))) is image
    # at the address that is known it keeps the endpoint that is known too
    same = BrokerAddress(1, "a", 1, "rack")
    assert with_leader(image, hint(1, 6, node=same)).brokers[1].zmq_endpoint == "a:2"


def test_a_leader_that_is_named_while_metadata_is_asked_for_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = Metadata("a:1")
    metadata.image = merge(ClusterImage(), answer(1, 5), ["t"])

    def ask(*_: object) -> MetadataResponse:
        assert metadata.adopt(hint(2, 6))
        return answer(1, 5)

    monkeypatch.setattr(metadata, "_ask", ask)
    assert metadata.refresh(["t"], timeout_ms=1).leader("t", 0) == 2
    assert not metadata.adopt(hint(2, 6))


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


class Brokers:
    """Connections to brokers of which some are silent; time passes only while somebody waits for them."""

    def __init__(self, *silent: str) -> None:
        self.silent = set(silent)
        #: these refuse connections until `back_ms`
        self.refusing: set[str] = set()
        self.back_ms = 0.0
        self.connect_ms = 0.0
        self.now_ms = 0.0
        self.asked: list[str] = []

    def connect(self, host: str, _port: int, **_options: object) -> Brokers.To:
        if host in self.refusing and self.now_ms < self.back_ms:
            raise NotReachableError(f"{host} refuses")
        self.now_ms += self.connect_ms
        return Brokers.To(self, host)

    class To:
        """A connection."""

        def __init__(self, brokers: Brokers, host: str) -> None:
            self._brokers, self._host = brokers, host

        def request(self, _request: object, *, timeout_ms: float) -> MetadataResponse:
            self._brokers.asked.append(self._host)
            if self._host in self._brokers.silent:
                self._brokers.now_ms += timeout_ms
                raise NotReachableError(f"{self._host} is silent")
            return answer(1, 0)

        def close(self) -> None:
            pass


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr("fastlog.client.metadata.Connection", made.connect)
    return made


def metadata_of(brokers: Brokers, bootstrap: str) -> Metadata:
    def sleep(seconds: float) -> None:
        brokers.now_ms += seconds * 1000

    return Metadata(bootstrap, clock_ms=lambda: brokers.now_ms, sleep=sleep, shuffle=list.sort)


def test_a_broker_that_says_nothing_is_left_for_the_others_and_comes_last_from_then_on(
    brokers: Brokers,
) -> None:
    metadata = metadata_of(brokers, "a:1,b:1")
    metadata.refresh(["t"], timeout_ms=5_000)
    brokers.silent = {"a"}
    metadata.refresh(["t"], timeout_ms=5_000)
    assert (brokers.asked, brokers.now_ms) == (["a", "a", "b"], PATIENCE_MS)
    brokers.silent = {"b"}
    metadata.close()
    brokers.asked.clear()
    metadata.refresh(["t"], timeout_ms=5_000)
    assert brokers.asked == ["b", "a"]


def test_a_request_that_takes_its_time_gets_it_in_the_end(brokers: Brokers) -> None:
    brokers.silent = {"a", "b"}
    metadata = metadata_of(brokers, "a:1,b:1")
    with pytest.raises(NotReachableError, match="b is silent"):
        metadata.refresh(["t"], timeout_ms=30_000)
    waits = len(brokers.asked)
    # 1, 1, 2, 2, 4, 4, 8, what is left but for the last tries of 1: none is tried so often that it never could answer
    assert waits in (9, 10)
    assert brokers.now_ms == pytest.approx(30_000, rel=0.05)


def test_one_that_says_nothing_does_not_take_all_the_time_of_those_that_come_back(brokers: Brokers) -> None:
    brokers.silent, brokers.refusing = {"a"}, {"b"}
    # after 20 of 30 seconds, when the patience with each is longer than what is left
    brokers.back_ms = 20_000
    metadata_of(brokers, "a:1,b:1").refresh(["t"], timeout_ms=30_000)
    assert brokers.asked[-1] == "b"
    assert brokers.now_ms < 30_000


def test_connecting_and_asking_share_the_patience_with_a_broker(brokers: Brokers) -> None:
    brokers.silent, brokers.connect_ms = {"a"}, 700.0
    metadata_of(brokers, "a:1,b:1").refresh(["t"], timeout_ms=5_000)
    assert brokers.asked == ["a", "b"]
    assert brokers.now_ms == PATIENCE_MS + brokers.connect_ms


def test_the_only_broker_is_waited_for(brokers: Brokers) -> None:
    brokers.silent = {"a"}
    with pytest.raises(NotReachableError):
        metadata_of(brokers, "a:1").refresh(["t"], timeout_ms=5_000)
    assert (brokers.asked, brokers.now_ms) == (["a"], 5_000)


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
