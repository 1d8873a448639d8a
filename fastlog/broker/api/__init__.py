"""The APIs that the control plane answers, one file each."""

from fastlog.broker.api import (
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    create_partitions,
    create_topics,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_topic_partitions,
    elect_leaders,
    incremental_alter_configs,
    init_producer_id,
    list_config_resources,
    list_partition_reassignments,
    metadata,
)
from fastlog.broker.api.groups import GROUP_APIS
from fastlog.broker.control_api import ControlApi

APIS: tuple[ControlApi, ...] = (
    metadata.API,
    create_topics.API,
    delete_topics.API,
    delete_records.API,
    init_producer_id.API,
    describe_configs.API,
    alter_configs.API,
    alter_replica_log_dirs.API,
    describe_log_dirs.API,
    describe_producers.API,
    create_partitions.API,
    elect_leaders.API,
    incremental_alter_configs.API,
    alter_partition_reassignments.API,
    list_partition_reassignments.API,
    describe_cluster.API,
    describe_quorum.API,
    list_config_resources.API,
    describe_topic_partitions.API,
    *GROUP_APIS,
)
