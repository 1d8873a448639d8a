"""The producer: partitioner, accumulator, sender, and the rules that keep records in order and single."""

from fastlog.client.producer.batch import Delivery, RecordMetadata
from fastlog.client.producer.producer import Producer

__all__ = ["Delivery", "Producer", "RecordMetadata"]
