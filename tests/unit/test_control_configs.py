"""Settings, the cluster, records and ids through the control APIs."""

from __future__ import annotations

import logging
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from fastlog.broker.api import delete_records
from fastlog.broker.context import Operation
from fastlog.broker.later import Later
from fastlog.ports import ConfigResource
from fastlog.protocol.messages import alter_configs, incremental_alter_configs
from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from fastlog.protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
)
from fastlog.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest
from fastlog.protocol.messages.list_config_resources import ListConfigResourcesRequest
from tests.support.control_plane import ControlPlane, context

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    made = ControlPlane(tmp_path, {"log.segment.bytes": "2097152"})
    made.topics.create("orders", partition_count=2, configs={"retention.ms": "1000"})
    return made


def describe(
    plane: ControlPlane, kind: int, name: str, keys: list[str] | None = None, **options: bool
) -> Any:
    wanted = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    return plane.ask(DescribeConfigsRequest(resources=[wanted], **options)).results[0]


def change(
    plane: ControlPlane, kind: int, name: str, *edits: tuple[str, int, str | None], **options: bool
) -> Any:
    configs = [incremental_alter_configs.AlterableConfig(*edit) for edit in edits]
    wanted = incremental_alter_configs.AlterConfigsResource(kind, name, configs)
    request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[wanted], **options)
    return plane.ask(request).responses[0]


def replace(plane: ControlPlane, kind: int, name: str, **values: str | None) -> Any:
    configs = [alter_configs.AlterableConfig(key.replace("_", "."), value) for key, value in values.items()]
    wanted = alter_configs.AlterConfigsResource(kind, name, configs)
    return plane.ask(alter_configs.AlterConfigsRequest(resources=[wanted])).responses[0]


def test_every_key_of_a_topic_is_described_with_its_source(plane: ControlPlane) -> None:
    result = describe(plane, TOPIC, "orders", include_synonyms=True, include_documentation=True)
    configs = {config.name: config for config in result.configs}
    assert {"cleanup.policy", "retention.bytes", "min.insync.replicas", "fastlog.durability"} < configs.keys()
    assert list(configs) == sorted(configs)
    retention = configs["retention.ms"]
    assert (retention.value, retention.config_source, retention.config_type) == ("1000", 1, 5)
    assert [(s.name, s.value, s.source) for s in retention.synonyms] == [
        ("retention.ms", "1000", 1),
        ("log.retention.hours", "168", 5),
    ]
    assert (configs["segment.bytes"].value, configs["segment.bytes"].config_source) == ("2097152", 4)
    assert configs["segment.ms"].value == "604800000"
    assert (configs["cleanup.policy"].value, configs["cleanup.policy"].config_source) == ("delete", 5)
    assert all(config.documentation and not config.read_only for config in configs.values())


def test_only_the_keys_asked_for(plane: ControlPlane) -> None:
    result = describe(plane, TOPIC, "orders", ["retention.ms", "nonsense"])
    assert [config.name for config in result.configs] == ["retention.ms"]
    assert result.configs[0].synonyms == []
    assert result.configs[0].documentation is None


def test_a_broker_s_settings_say_which_are_fixed(plane: ControlPlane) -> None:
    configs = {config.name: config for config in describe(plane, BROKER, "1").configs}
    assert configs["node.id"].read_only
    assert not configs["log.retention.ms"].read_only
    assert configs["log.segment.bytes"].config_source == 4
    assert describe(plane, BROKER, "").configs == []


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "absent", 3),
        (TOPIC, "../x", 17),
        (BROKER, "2", 42),
        (BROKER, "x", 42),
        (LOGGER, "2", 42),
        (LOGGER, "", 42),
        (CLIENT_METRICS, "all", 42),
        (GROUP, "", 42),
        (99, "", 42),
    ],
)
def test_resources_that_cannot_be_described_or_changed(
    plane: ControlPlane, kind: int, name: str, code: int
) -> None:
    assert describe(plane, kind, name).error_code == code
    assert change(plane, kind, name, ("retention.ms", SET, "1")).error_code == code
    assert replace(plane, kind, name).error_code == code


def test_a_topic_s_settings_are_changed_stored_and_applied(plane: ControlPlane) -> None:
    assert change(plane, TOPIC, "orders", ("segment.bytes", SET, "1048576")).error_code == 0
    assert plane.configs.topic_overrides("orders") == {"retention.ms": "1000", "segment.bytes": "1048576"}
    assert {settings.segment_bytes for settings in plane.data_plane.open.values()} == {1048576}
    plane.restart()
    assert {settings.segment_bytes for settings in plane.data_plane.open.values()} == {1048576}
    assert change(plane, TOPIC, "orders", ("segment.bytes", DELETE, None)).error_code == 0
    assert {settings.segment_bytes for settings in plane.data_plane.open.values()} == {2097152}


def test_a_stored_value_that_cannot_be_is_named_shown_as_not_in_force_and_can_be_deleted(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.store.put_configs(ConfigResource("topic", "orders"), {"min.insync.replicas": "-5"}, 1)
    plane.restart()
    assert "key=min.insync.replicas value=-5" in caplog.text
    assert {settings.min_insync_replicas for settings in plane.data_plane.open.values()} == {1}
    (shown,) = describe(plane, TOPIC, "orders", ["min.insync.replicas"]).configs
    assert (shown.value, shown.config_source) == ("1", 5)
    assert change(plane, TOPIC, "orders", ("min.insync.replicas", DELETE, None)).error_code == 0
    assert plane.configs.topic_overrides("orders") == {}


def test_lists_are_appended_to_and_subtracted_from(plane: ControlPlane) -> None:
    def policy() -> str | None:
        value: str | None = describe(plane, TOPIC, "orders", ["cleanup.policy"]).configs[0].value
        return value

    assert change(plane, TOPIC, "orders", ("cleanup.policy", APPEND, "compact")).error_code == 0
    assert policy() == "delete,compact"
    assert change(plane, TOPIC, "orders", ("cleanup.policy", APPEND, "compact")).error_code == 0
    assert policy() == "delete,compact"
    assert change(plane, TOPIC, "orders", ("cleanup.policy", SUBTRACT, "delete")).error_code == 0
    assert policy() == "compact"
    assert change(plane, TOPIC, "orders", ("cleanup.policy", APPEND, "shred")).error_code == 40
    assert change(plane, TOPIC, "orders", ("segment.bytes", APPEND, "1")).error_code == 40


@pytest.mark.parametrize(
    ("edits", "code"),
    [
        ([("retention.mss", SET, "1")], 40),
        ([("retention.ms", SET, "soon")], 40),
        ([("retention.ms", SET, None)], 42),
        ([("retention.ms", 9, "1")], 42),
        ([("retention.ms", SET, "1"), ("retention.ms", SET, "2")], 42),
        ([("segment.bytes", SET, "1048576"), ("nonsense", SET, "1")], 40),
    ],
)
def test_changes_that_are_refused_change_nothing(plane: ControlPlane, edits: list[Any], code: int) -> None:
    answer = change(plane, TOPIC, "orders", *edits)
    assert answer.error_code == code
    assert answer.error_message
    assert plane.configs.topic_overrides("orders") == {"retention.ms": "1000"}


def test_validate_only_changes_nothing(plane: ControlPlane) -> None:
    assert change(plane, TOPIC, "orders", ("retention.ms", SET, "7"), validate_only=True).error_code == 0
    assert plane.configs.topic_overrides("orders") == {"retention.ms": "1000"}


def test_a_resource_named_twice_is_refused(plane: ControlPlane) -> None:
    wanted = incremental_alter_configs.AlterConfigsResource(TOPIC, "orders", [])
    request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[wanted, wanted])
    assert [answer.error_code for answer in plane.ask(request).responses] == [42, 42]


def test_replacing_drops_what_is_not_named(plane: ControlPlane) -> None:
    assert replace(plane, TOPIC, "orders", segment_bytes="1048576").error_code == 0
    assert plane.configs.topic_overrides("orders") == {"segment.bytes": "1048576"}
    assert replace(plane, TOPIC, "orders", segment_bytes=None).error_code == 42


def test_a_broker_wide_default_reaches_every_topic_that_has_no_own(plane: ControlPlane) -> None:
    plane.topics.create("clicks")
    assert change(plane, BROKER, "", ("log.retention.ms", SET, "5000")).error_code == 0
    kept = {topic: settings.retention_ms for (topic, _), settings in plane.data_plane.open.items()}
    assert kept == {"orders": 1000, "clicks": 5000}
    assert [config.name for config in describe(plane, BROKER, "").configs] == ["log.retention.ms"]
    plane.restart()
    shown = describe(plane, TOPIC, "clicks", ["retention.ms"]).configs[0]
    assert (shown.value, shown.config_source) == ("5000", 3)


def test_what_is_read_at_the_start_cannot_be_changed(plane: ControlPlane) -> None:
    answer = change(plane, BROKER, "1", ("num.network.threads", SET, "5"))
    assert answer.error_code == 42
    assert "read when the broker starts" in answer.error_message


def test_settings_of_the_engine_are_in_force_at_once_and_after_a_start(plane: ControlPlane) -> None:
    assert change(plane, BROKER, "1", ("max.connections", SET, "7")).error_code == 0
    assert plane.data_plane.settings.max_connections == 7
    plane.restart()
    assert plane.data_plane.settings.max_connections == 7
    assert change(plane, BROKER, "", ("producer.id.expiration.ms", SET, "9")).error_code == 0
    assert plane.data_plane.settings.producer_id_expiration_ms == 9


def test_what_has_no_meaning_is_taken_shown_and_logged_once(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fastlog")
    assert change(plane, TOPIC, "orders", ("compression.lz4.level", SET, "5")).error_code == 0
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("setting has no meaning here key=compression.lz4.level")
    shown = describe(plane, TOPIC, "orders", ["compression.lz4.level"], include_documentation=True).configs[0]
    assert (shown.value, shown.config_source) == ("5", 1)
    assert shown.documentation.endswith("It does nothing here: lz4 has one level here.")
    caplog.clear()
    assert change(plane, TOPIC, "orders", ("retention.ms", SET, "5")).error_code == 0
    assert not caplog.records


def test_what_is_refused_keeps_its_default(plane: ControlPlane) -> None:
    answer = change(plane, TOPIC, "orders", ("flush.messages", SET, "1"))
    assert (answer.error_code, "fastlog.durability" in answer.error_message) == (40, True)
    assert change(plane, TOPIC, "orders", ("remote.storage.enable", SET, "true")).error_code == 40
    assert change(plane, TOPIC, "orders", ("remote.storage.enable", SET, "false")).error_code == 0


def test_a_setting_of_one_broker_is_not_set_for_all(plane: ControlPlane) -> None:
    answer = change(plane, BROKER, "", ("ssl.keystore.type", SET, "JKS"))
    assert (answer.error_code, "name the broker" in answer.error_message) == (42, True)
    assert change(plane, BROKER, "1", ("ssl.keystore.type", SET, "JKS")).error_code == 0


def test_secrets_are_not_told(plane: ControlPlane) -> None:
    shown = describe(plane, BROKER, "1", ["ssl.keystore.password"], include_synonyms=True).configs[0]
    assert (shown.is_sensitive, shown.value, shown.config_type) == (True, None, 9)
    answer = change(plane, BROKER, "1", ("ssl.keystore.password", SET, "hunter2"))
    assert (answer.error_code, "hunter2" in answer.error_message) == (40, False)


def test_internal_settings_are_described_where_they_are_set(plane: ControlPlane) -> None:
    named = {it.name for it in describe(plane, TOPIC, "orders").configs}
    assert "internal.segment.bytes" not in named
    assert change(plane, TOPIC, "orders", ("internal.segment.bytes", SET, "5")).error_code == 0
    assert describe(plane, TOPIC, "orders", ["internal.segment.bytes"]).configs[0].value == "5"


def test_settings_of_groups_are_kept_and_described(plane: ControlPlane) -> None:
    edit = ("share.isolation.level", SET, "read_committed")
    assert change(plane, GROUP, "a/b", edit).error_code == 0
    plane.restart()
    configs = {it.name: it for it in describe(plane, GROUP, "a/b").configs}
    changed = configs["share.isolation.level"]
    assert (changed.value, changed.config_source) == ("read_committed", 8)
    assert configs["share.auto.offset.reset"].config_source == 5
    assert change(plane, GROUP, "a/b", ("retention.ms", SET, "1")).error_code == 40
    assert change(plane, GROUP, "a/b", ("share.delivery.count.limit", SET, "1")).error_code == 40
    assert replace(plane, GROUP, "a/b").error_code == 0
    assert describe(plane, GROUP, "a/b", ["share.isolation.level"]).configs[0].config_source == 5


def test_the_resources_with_settings_are_listed(plane: ControlPlane) -> None:
    def listed(*kinds: int, version: int = 1) -> list[tuple[int, str]]:
        answer = plane.ask(ListConfigResourcesRequest(resource_types=list(kinds)), version)
        assert answer.error_code == 0
        return [(it.resource_type, it.resource_name) for it in answer.config_resources]

    assert change(plane, GROUP, "g", ("share.isolation.level", SET, "read_committed")).error_code == 0
    assert listed() == [(TOPIC, "orders"), (BROKER, "1"), (LOGGER, "1"), (GROUP, "g")]
    assert listed(GROUP, TOPIC, GROUP) == [(GROUP, "g"), (TOPIC, "orders")]
    assert listed(CLIENT_METRICS) == []
    assert listed(version=0) == []
    assert plane.ask(ListConfigResourcesRequest(resource_types=[99])).error_code == 35


@pytest.fixture
def restored_levels() -> Iterator[None]:
    names = ["fastlog", "fastlog.topics"]
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("restored_levels")
def test_levels_of_loggers_are_changed(plane: ControlPlane) -> None:
    def levels() -> dict[str, str]:
        return {it.name: it.value for it in describe(plane, LOGGER, "1").configs}

    assert change(plane, LOGGER, "1", ("root", SET, "ERROR")).error_code == 0
    assert levels()["fastlog.topics"] == "ERROR"
    assert change(plane, LOGGER, "1", ("fastlog.topics", SET, "DEBUG")).error_code == 0
    assert (levels()["root"], levels()["fastlog.topics"]) == ("ERROR", "DEBUG")
    assert not logging.getLogger("fastlog.broker").isEnabledFor(logging.INFO)
    only_checked = change(plane, LOGGER, "1", ("root", SET, "INFO"), validate_only=True)
    assert (only_checked.error_code, levels()["root"]) == (0, "ERROR")
    assert change(plane, LOGGER, "1", ("fastlog.topics", DELETE, None)).error_code == 0
    assert levels()["fastlog.topics"] == "ERROR"


@pytest.mark.usefixtures("restored_levels")
@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (("root", SET, "LOUD"), 40),
        (("root", SET, None), 40),
        (("no.such.logger", SET, "INFO"), 40),
        (("root", DELETE, None), 42),
        (("root", APPEND, "INFO"), 42),
        (("root", SUBTRACT, "INFO"), 42),
    ],
)
def test_levels_that_are_refused(plane: ControlPlane, edit: tuple[str, int, str | None], code: int) -> None:
    before = describe(plane, LOGGER, "1").configs
    assert change(plane, LOGGER, "1", ("fastlog.topics", SET, "DEBUG"), edit).error_code == code
    assert describe(plane, LOGGER, "1").configs == before
    assert replace(plane, LOGGER, "1", root="INFO").error_code == 42


def test_the_cluster_is_described_by_the_address_that_was_asked(plane: ControlPlane) -> None:
    answer = plane.ask(DescribeClusterRequest())
    assert (answer.error_code, answer.controller_id, len(answer.cluster_id)) == (0, 1, 22)
    assert [(it.broker_id, it.host, it.port) for it in answer.brokers] == [(1, "127.0.0.1", 9092)]
    assert plane.ask(DescribeClusterRequest(endpoint_type=2)).error_code == 114
    assert plane.ask(DescribeClusterRequest(endpoint_type=7)).error_code == 115


def test_records_are_deleted_up_to_an_offset_or_the_high_watermark(plane: ControlPlane) -> None:
    plane.topics.create("compacted", configs={"cleanup.policy": "compact"})

    def ask(topic: str, partition: int, offset: int) -> tuple[int, int]:
        wanted = DeleteRecordsTopic(topic, [DeleteRecordsPartition(partition, offset)])
        (result,) = plane.ask(DeleteRecordsRequest(topics=[wanted])).topics[0].partitions
        return result.low_watermark, result.error_code

    assert ask("orders", 0, 4) == (4, 0)
    assert ask("orders", 0, -1) == (10, 0)
    assert ask("orders", 0, 11) == (-1, 1)
    assert ask("orders", 9, 0) == (-1, 3)
    assert ask("absent", 0, 0) == (-1, 3)
    assert ask("compacted", 0, 0) == (-1, 44)


def test_the_answer_waits_until_replicas_deleted_the_records_too(plane: ControlPlane) -> None:
    wanted = DeleteRecordsTopic("orders", [DeleteRecordsPartition(0, 4), DeleteRecordsPartition(9, 0)])
    plane.data_plane.replicas_moved.clear()

    def ask(timeout_ms: int) -> DeleteRecordsResponse | Later:
        request = DeleteRecordsRequest(topics=[wanted], timeout_ms=timeout_ms)
        answer = delete_records.handle(plane.services, context(2), request)
        assert isinstance(answer, DeleteRecordsResponse | Later)
        return answer

    def results(response: DeleteRecordsResponse) -> list[tuple[int, int]]:
        return [(it.low_watermark, it.error_code) for it in response.topics[0].partitions]

    at_once = ask(0)
    assert isinstance(at_once, DeleteRecordsResponse)
    assert results(at_once) == [(-1, 7), (-1, 3)]
    later = ask(60_000)
    assert isinstance(later, Later)
    answers: SimpleQueue[DeleteRecordsResponse] = SimpleQueue()
    later.then(answers.put)
    assert answers.empty()
    plane.data_plane.replicas_moved.set()
    assert results(answers.get(timeout=20)) == [(4, 0), (-1, 3)]


def test_the_data_directories_are_described(plane: ControlPlane) -> None:
    result, other, failed = plane.ask(DescribeLogDirsRequest(topics=None)).results
    assert [it.log_dir for it in (result, other, failed)] == ["/data", "/other", "/failed"]
    assert [(topic.name, len(topic.partitions)) for topic in result.topics] == [("orders", 2)]
    assert (result.total_bytes, result.usable_bytes, result.error_code) == (2000, 1000, 0)
    assert (other.total_bytes, other.usable_bytes, other.error_code) == (200, 100, 0)
    (moving,) = [(topic.name, *topic.partitions) for topic in other.topics]
    assert moving == ("orders", DescribeLogDirsPartition(1, 60, 4, True))
    assert not any(it.is_future_key for it in result.topics[0].partitions)
    assert (failed.total_bytes, failed.usable_bytes, failed.topics, failed.error_code) == (-1, -1, [], 56)
    wanted = [DescribableLogDirTopic("orders", [1, 7]), DescribableLogDirTopic("absent", [0])]
    result, *_ = plane.ask(DescribeLogDirsRequest(topics=wanted)).results
    assert [(topic.name, [p.partition_index for p in topic.partitions]) for topic in result.topics] == [
        ("orders", [1])
    ]


def test_producers_of_partitions_are_described(plane: ControlPlane) -> None:
    wanted = [TopicRequest("orders", [0, 7]), TopicRequest("absent", [0]), TopicRequest("../x", [0])]
    topics = plane.ask(DescribeProducersRequest(topics=wanted)).topics
    assert [[it.error_code for it in topic.partitions] for topic in topics] == [[0, 3], [3], [17]]
    (known,) = topics[0].partitions[0].active_producers
    assert (known.producer_id, known.last_sequence, known.current_txn_start_offset) == (7, 41, -1)


def test_producer_ids_are_unique_over_blocks_and_restarts(plane: ControlPlane) -> None:
    request = InitProducerIdRequest(transactional_id=None)
    seen = [plane.ask(request).producer_id for _ in range(1500)]
    plane.restart()
    seen += [plane.ask(request).producer_id for _ in range(10)]
    assert len(set(seen)) == len(seen)
    assert plane.ask(request).producer_epoch == 0


def test_producer_ids_that_are_refused(plane: ControlPlane) -> None:
    assert plane.ask(InitProducerIdRequest(transactional_id="")).error_code == 42
    assert plane.ask(InitProducerIdRequest(transactional_id="t")).error_code == 15
    assert plane.ask(InitProducerIdRequest(transactional_id=None, producer_id=5)).error_code == 42


def test_a_replica_is_moved_to_another_directory_or_stays_in_its_own(plane: ControlPlane) -> None:
    here = "/data"
    orders, other = AlterReplicaLogDirTopic("orders", [0, 7]), AlterReplicaLogDirTopic("absent", [0])

    def codes(*dirs: AlterReplicaLogDir) -> dict[tuple[str, int], int]:
        answer = plane.ask(AlterReplicaLogDirsRequest(list(dirs)))
        return {
            (topic.topic_name, it.partition_index): it.error_code
            for topic in answer.results
            for it in topic.partitions
        }

    wanted = AlterReplicaLogDir(here, [orders, other])
    assert codes(wanted) == {("orders", 0): 0, ("orders", 7): 3, ("absent", 0): 3}
    elsewhere = AlterReplicaLogDir("/elsewhere", [orders])
    assert codes(AlterReplicaLogDir("/other", [orders])) == {("orders", 0): 0, ("orders", 7): 3}
    assert plane.data_plane.moved == [("orders", 0, "/data"), ("orders", 0, "/other")]
    assert codes(wanted, elsewhere) == {("orders", 0): 57, ("orders", 7): 57, ("absent", 0): 3}
    del plane.data_plane.open["orders", 0]
    assert codes(wanted)["orders", 0] == 9


def test_the_authorizer_is_asked_with_the_whole_context(plane: ControlPlane) -> None:
    asked = []

    class Refuse:
        def allows(self, context: Any, operation: Operation, resource_type: int, name: str) -> bool:
            asked.append((context.principal, context.client_id, context.client_address, operation, name))
            return False

    plane.services.authorizer = Refuse()
    assert describe(plane, TOPIC, "orders").error_code == 29
    assert plane.ask(DescribeClusterRequest()).error_code == 31
    moved = AlterReplicaLogDir("/", [AlterReplicaLogDirTopic("orders", [0])])
    answer = plane.ask(AlterReplicaLogDirsRequest([moved]))
    assert [it.error_code for it in answer.results[0].partitions] == [31]
    assert plane.ask(InitProducerIdRequest(transactional_id=None)).error_code == 31
    assert change(plane, BROKER, "1", ("num.partitions", SET, "2")).error_code == 31
    assert asked[0] == ("User:ANONYMOUS", "test", "127.0.0.1:5", Operation.DESCRIBE_CONFIGS, "orders")


def test_a_resource_that_stands_twice_is_described_once(plane: ControlPlane) -> None:
    wanted = [DescribeConfigsResource(BROKER, "1", keys) for keys in (None, None, ["node.id"], None)]
    results = plane.ask(DescribeConfigsRequest(resources=wanted)).results
    assert [len(result.configs) > 1 for result in results] == [True, False]


def test_many_resources_are_compared_quickly(plane: ControlPlane) -> None:
    """Twenty thousand, of which each is looked for among all others, would take minutes."""
    resources = [alter_configs.AlterConfigsResource(TOPIC, f"t{number}", []) for number in range(20_000)]
    answer = plane.ask(alter_configs.AlterConfigsRequest(resources=resources))
    assert {result.error_code for result in answer.responses} == {3}
