"""Backups of topics and groups, taken from and brought back to a running cluster.

A backup is files in an archive: chunks of record batches as the leader has them, and manifests that say which chunks
make up which partition. The next backup goes on where the last one ended. docs/backup.md tells what is promised.
"""
