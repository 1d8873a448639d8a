"""Forks: the child has a producer's memory, but neither its threads nor its connections."""

from __future__ import annotations

import functools
import os
import weakref
from typing import TYPE_CHECKING

from fastlog.errors import ClosedError

if TYPE_CHECKING:
    from fastlog.native._sending import Sending


@functools.cache
def refused_in_children() -> weakref.WeakSet[Sending]:
    """The producers that refuse records in a forked child; the same set at each call.

    A hook of os.register_at_fork is the process's for ever, so one serves all, from the first call on. Where two
    threads come first at once there are two sets, each with its hook.
    """
    producers: weakref.WeakSet[Sending] = weakref.WeakSet()

    def refuse() -> None:
        # no lock is touched: another thread of the parent may have held it
        for producer in list(producers):
            producer.refusal = ClosedError(
                "this producer was made before fork(): its threads and connections stay with the parent process; "
                "make a producer in the child"
            )

    os.register_at_fork(after_in_child=refuse)
    return producers
