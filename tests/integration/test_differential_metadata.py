"""fastlog and Apache Kafka asked the same: Metadata."""

from __future__ import annotations

import uuid

import pytest

from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.pair import Pair, Side

VERSIONS = range(14)
BAD_NAMES = ["../x", ".", "..", "", "a/b", "a b", "x" * 250, "ü", "a\0b"]


def named(*names: str | None, create: bool = False) -> MetadataRequest:
    topics = [MetadataRequestTopic(name=name) for name in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=create)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_s_partitions_leaders_and_replicas(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, 3)
    pair.same(named(topic_name), version)


@pytest.mark.parametrize("version", range(1, 14))
def test_no_topics_are_asked_for(pair: Pair, version: int) -> None:
    pair.same(named(), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_topics_are_asked_for(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    everything = MetadataRequest(topics=[] if version == 0 else None, allow_auto_topic_creation=False)
    for answer in pair.both(everything, version):
        assert [topic.error_code for topic in answer.topics if topic.name == topic_name] == [0]


@pytest.mark.parametrize("version", range(4, 14))
def test_an_unknown_topic_that_is_not_to_be_created(pair: Pair, topic_name: str, version: int) -> None:
    pair.same(named(topic_name), version)
    pair.same(named(topic_name, topic_name), version)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("create", [False, True])
def test_bad_names(pair: Pair, name: str, create: bool) -> None:
    for version in (4, 9, 12, 13):
        pair.same(named(name, create=create), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_is_created_on_request(pair: Pair, topic_name: str, version: int) -> None:
    pair.both(named(topic_name, create=True), version)
    pair.wait_for(topic_name)
    pair.same(named(topic_name), version)


def test_the_first_answer_about_a_topic_that_is_being_created(pair: Pair, topic_name: str) -> None:
    pair.same(named(topic_name, create=True), 12, but="metadata/topic being created")


@pytest.mark.parametrize("version", [10, 11, 12, 13])
def test_a_topic_by_its_id(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)

    def ask(side: Side) -> MetadataRequest:
        wanted = MetadataRequestTopic(topic_id=pair.topic_id(side, topic_name), name=None)
        return MetadataRequest(topics=[wanted], allow_auto_topic_creation=False)

    pair.same(ask, version)


@pytest.mark.parametrize("version", [10, 11, 12, 13])
def test_an_unknown_id(pair: Pair, version: int) -> None:
    wanted = MetadataRequestTopic(topic_id=uuid.uuid4().bytes, name=None)
    pair.same(MetadataRequest(topics=[wanted], allow_auto_topic_creation=False), version)


@pytest.mark.parametrize(
    ("version", "but"), [(10, ""), (12, "metadata/ids and names"), (13, "metadata/ids and names")]
)
def test_ids_and_names_in_one_request(pair: Pair, topic_name: str, version: int, but: str) -> None:
    pair.topic(topic_name)

    def ask(side: Side) -> MetadataRequest:
        by_id = MetadataRequestTopic(topic_id=pair.topic_id(side, topic_name), name=None)
        both = [by_id, MetadataRequestTopic(name="no-such-topic")]
        return MetadataRequest(topics=both, allow_auto_topic_creation=False)

    pair.same(ask, version, but=but)


def test_an_id_with_a_name(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)

    def ask(side: Side) -> MetadataRequest:
        wanted = MetadataRequestTopic(topic_id=pair.topic_id(side, topic_name), name=topic_name)
        return MetadataRequest(topics=[wanted], allow_auto_topic_creation=False)

    pair.same(ask, 12)
    pair.same(ask, 13)


@pytest.mark.parametrize(
    ("version", "but"), [(10, ""), (12, "metadata/null name"), (13, "metadata/null name from version 13 on")]
)
def test_a_null_name_without_an_id(pair: Pair, version: int, but: str) -> None:
    pair.same(named(None), version, but=but)


@pytest.mark.parametrize("version", range(8, 14))
def test_authorized_operations(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    asked = MetadataRequest(
        topics=[MetadataRequestTopic(name=topic_name), MetadataRequestTopic(name="no-such-topic")],
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=True,
        include_cluster_authorized_operations=True,
    )
    pair.same(asked, version)
