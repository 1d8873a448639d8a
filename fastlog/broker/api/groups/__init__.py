"""What handles the APIs of groups and committed offsets, one file each."""
