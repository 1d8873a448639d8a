"""The producer: partitioner, accumulator, sender, and the rules that keep records in order and single."""

from fastlog.client.producer.producer import Producer
from fastlog.native._sending import Delivery, RecordMetadata

__all__ = ["Delivery", "Producer", "RecordMetadata"]
