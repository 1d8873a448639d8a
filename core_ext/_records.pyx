"""Records <-> Python objects: the per-record work of producers and consumers."""
