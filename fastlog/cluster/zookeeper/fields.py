"""What a number or a text in a znode can be: within the type that it has everywhere else, in messages and on disk.

Anybody may write znodes. What is out of these bounds is garbage like what is no JSON: nobody is to meet a port of 10^20
on a thread that has other things to do.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from fastlog.config.setting import INT_MAX, LONG_MAX

#: what is counted one by one is read up to here, half of its type: no cluster comes so far, and what follows fits too
COUNTED_MAX = 2**30
#: characters; in UTF-8 they fit into a string of Kafka's protocol, of 32,767 bytes
TEXT_MAX = 8_191
PORT_MAX = 65_535

BrokerId = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
Leader = Annotated[int, msgspec.Meta(ge=-1, le=INT_MAX)]
"""A broker's id, -1 for nobody."""
Epoch = Annotated[int, msgspec.Meta(ge=0, le=COUNTED_MAX)]
"""Of leaders and controllers."""
BrokerEpoch = Annotated[int, msgspec.Meta(ge=-1, le=LONG_MAX)]
"""A czxid, -1 for none."""
Index = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
"""Of a partition."""
Count = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
ProducerId = Annotated[int, msgspec.Meta(ge=0, le=LONG_MAX)]
Port = Annotated[int, msgspec.Meta(ge=1, le=PORT_MAX)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX)]


def number_in(name: str) -> int | None:
    """The broker id or partition that a znode is named by, None for another name: each has one, without zeros first."""
    # a longer one is none, and int takes no text of any length
    if not (name.isascii() and name.isdecimal() and len(name) <= len(str(INT_MAX))):
        return None
    number = int(name)
    return number if number <= INT_MAX and str(number) == name else None
