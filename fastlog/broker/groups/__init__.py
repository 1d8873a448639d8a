"""The group coordinator's driver: its thread, its logs in `__consumer_offsets`, its clock."""
