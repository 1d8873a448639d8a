"""A broker's machine for the simulation of clusters: only where Cargo's feature `simulation` is on, as in the editable
build; wheels have it not.
"""

from fastlog.native._engine import SimulatedNode  # type: ignore[attr-defined]

__all__ = ["SimulatedNode"]
