"""What the benches share: brokers, fair pairs, statistics, workloads, raw connections, results."""
