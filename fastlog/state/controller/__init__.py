"""The controller of a cluster: who leads what, decided from events and the time; docs/cluster.md has the rules."""
