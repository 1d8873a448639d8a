"""Figures of a cluster of three, beside Apache Kafka's: `python -m benchmarks.cluster --help`."""
