"""The metadata store's implementations and, in a cluster, registration and election."""
