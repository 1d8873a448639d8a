"""A distributed commit log that speaks Kafka's protocol."""
