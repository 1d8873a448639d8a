"""Kafka's wire protocol: typed messages, their codec, the table of APIs and versions."""
