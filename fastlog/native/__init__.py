"""The compiled modules, with their stubs. tools/tidy.py names the few places that may import them."""
