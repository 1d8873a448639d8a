"""A year of flights through a broker, counted and compared: `python -m examples.flights [FILE]`."""
