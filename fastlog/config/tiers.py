"""What settings of tiered storage must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from fastlog.config.table import BrokerSettings, TopicSettings

AS_WHOLE = -2
"""A local retention that is that of the whole log."""


def check_store(settings: BrokerSettings) -> None:
    """Raises ConfigError where a broker's settings name no store, or one that it cannot use."""
    if not settings.remote_log_storage_system_enable:
        return
    url = settings.fastlog_remote_store_url
    if not url:
        raise ConfigError(
            "remote.log.storage.system.enable=true: it needs fastlog.remote.store.url, a directory or s3://bucket/prefix"
        )
    if not url.startswith(("s3://", "file:///", "/")):
        raise ConfigError(
            f"fastlog.remote.store.url={url}: it takes s3://bucket/prefix, or the absolute path of a directory, so "
            "that each start finds the same one"
        )


def check_topic(broker: BrokerSettings, topic: TopicSettings, *, was_tiered: bool) -> None:
    """Raises ConfigError where a topic cannot be as its settings say; `was_tiered`: before they are changed."""
    if not topic.remote_storage_enable:
        if was_tiered and broker.zookeeper_connect is not None:
            raise ConfigError(
                "remote.storage.enable=false: not in a cluster yet, whose replicas have different parts of the log on "
                "their disks. Set remote.log.copy.disable=true to upload nothing more and go on reading"
            )
        if was_tiered and not topic.remote_log_delete_on_disable:
            raise ConfigError(
                "remote.storage.enable=false: what was uploaded would be lost. Set remote.log.delete.on.disable=true "
                "too to delete it, or remote.storage.enable=true and remote.log.copy.disable=true to upload nothing "
                "more and go on reading"
            )
        return
    if not broker.remote_log_storage_system_enable:
        raise ConfigError(
            "remote.storage.enable=true: tiered storage is off on this broker (remote.log.storage.system.enable)"
        )
    if "compact" in topic.cleanup_policy:
        raise ConfigError("remote.storage.enable=true: a topic with cleanup.policy=compact cannot have it")
    _check_local("retention.ms", topic.local_retention_ms, topic.retention_ms)
    _check_local("retention.bytes", topic.local_retention_bytes, topic.retention_bytes)


def _check_local(name: str, local: int, whole: int) -> None:
    if local == AS_WHOLE or whole < 0:
        return
    if local < 0 or local > whole:
        raise ConfigError(f"local.{name}={local}: it must not be more than {name}={whole}")
