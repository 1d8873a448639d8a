"""What a broker decides about the replicas it holds: who is in sync, what to fetch, where
to cut, and for how long it may act as leader.
"""
