"""The producer: partitioner, accumulator, sender, and the rules that keep records in order and single."""

from fastlog.client.producer.bulk import BulkDelivery, BulkMetadata
from fastlog.client.producer.producer import Producer
from fastlog.native._column import Column
from fastlog.native._sending import Delivery, RecordMetadata

__all__ = ["BulkDelivery", "BulkMetadata", "Column", "Delivery", "Producer", "RecordMetadata"]
