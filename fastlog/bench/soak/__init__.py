"""A soak: a steady producer, three kinds of consumers, retention that deletes, and a broker that must not grow.

Each consumer is a process, so that no one's work is in another's latency. Records carry their number and a checksum:
whatever is lost, doubled, reordered or changed is found by whoever reads it.
"""
