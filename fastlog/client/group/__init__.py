"""The consumer's part of a group: membership without I/O, the thread that drives it, and the application's side."""
