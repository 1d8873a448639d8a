"""A backlog that memory does not hold, read while others write: `python -m benchmarks.cold --help`."""
