"""A broker's part in its cluster: the session with ZooKeeper, and the controller when it is elected.

Everything runs on one thread, `ClusterWorker`'s, but for what may take long: the store's calls, and trying ports.
"""
