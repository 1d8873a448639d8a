"""The cluster's metadata in ZooKeeper: the store, who is in, who controls, and the leader's lease.

Nothing here is imported on a node without a cluster: kazoo comes with the first submodule that needs it.
docs/zookeeper.md has the znodes and what is promised.
"""
