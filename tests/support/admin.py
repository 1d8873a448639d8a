"""Topics made and described through confluent-kafka, so that tests of other things do not need our own admin."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient, NewTopic

ADMIN_SECONDS = 20.0


def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None
) -> str:
    """Creates the topic; returns its name."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics(
        [NewTopic(topic, partitions, 1, config=config or {})], request_timeout=ADMIN_SECONDS
    )
    for future in made.values():
        future.result()
    return topic
