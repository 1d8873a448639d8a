"""Every way to crash a broker, run under load for each durability: what was sent, what was told, what is there after.

`python -m tests.crashes` runs them and prints a table; docs/durability.md is written by it.
"""
