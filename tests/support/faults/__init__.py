"""Faults of real disks: a file system that loses its power, and system calls that fail."""
