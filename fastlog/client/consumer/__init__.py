"""The consumer: subscription or assignment, positions, and the way from fetched bytes to records."""

from fastlog.client.consumer.consumer import Consumer
from fastlog.client.consumer.options import ConsumerOptions
from fastlog.client.consumer.topic_partition import TopicPartition

__all__ = ["Consumer", "ConsumerOptions", "TopicPartition"]
