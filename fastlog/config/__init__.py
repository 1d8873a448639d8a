"""The settings of brokers and topics: one table, how values are layered, loaded and checked."""

from fastlog.config.layers import (
    BROKER_KEYS,
    GROUP_KEYS,
    TOPIC_KEYS,
    Candidate,
    Config,
    Entry,
    Origin,
    check,
    known,
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
    "GROUP_KEYS",
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
    "check",
    "known",
    "load",
    "nearest",
    "parse_advertised",
    "parse_listeners",
    "unusable",
]
