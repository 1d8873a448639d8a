"""The settings of brokers and topics: one table, how values are layered, loaded and checked."""

from fastlog.config.layers import (
    BROKER_KEYS,
    TOPIC_KEYS,
    Candidate,
    Config,
    Entry,
    Origin,
    check_broker,
    check_topic,
    nearest,
    unusable,
)
from fastlog.config.listeners import BROKER, METADATA, Endpoint, parse_advertised, parse_listeners
from fastlog.config.load import Given, load
from fastlog.config.setting import Setting, Value
from fastlog.config.table import SETTINGS, BrokerSettings, TopicSettings

__all__ = [
    "BROKER",
    "BROKER_KEYS",
    "METADATA",
    "SETTINGS",
    "TOPIC_KEYS",
    "BrokerSettings",
    "Candidate",
    "Config",
    "Endpoint",
    "Entry",
    "Given",
    "Origin",
    "Setting",
    "TopicSettings",
    "Value",
    "check_broker",
    "check_topic",
    "load",
    "nearest",
    "parse_advertised",
    "parse_listeners",
    "unusable",
]
