"""The administration's client: topics, settings, offsets, groups."""

from fastlog.client.admin.admin import Admin

__all__ = ["Admin"]
