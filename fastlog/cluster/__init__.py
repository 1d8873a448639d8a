"""The metadata store's implementations and, in a cluster, registration and election."""

#: in the data directory of a broker that is, or was, in a cluster
INCARNATIONS_NAME = "incarnations.json"
