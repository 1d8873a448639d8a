"""Kafka's messages, one module for each API; a message class holds the fields of all its versions."""
