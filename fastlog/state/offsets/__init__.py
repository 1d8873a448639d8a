"""The positions that groups commit."""
