"""Groups of the consumer protocol (KIP-848): the coordinator assigns, and each member moves there at its own pace.

A member tells with a heartbeat what it wants and what it has, and is told what it may have. The group epoch rises with
each change of what is wanted; the target assignment is made for an epoch; a member has the epoch of the target that it
has arrived at. A partition has a new owner only after the one before has said that it has let go of it.
"""
