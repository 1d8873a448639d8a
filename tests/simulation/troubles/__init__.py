"""What befalls a cluster beside deaths, cuts and pauses: each a file."""
