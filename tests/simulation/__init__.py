"""A whole cluster in one thread, with time, network, disks and store made up from a seed: docs/simulation.md."""
