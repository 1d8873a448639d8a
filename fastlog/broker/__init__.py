"""The broker: its composition root, the control plane's loop and APIs, housekeeping, the ZeroMQ intake."""
