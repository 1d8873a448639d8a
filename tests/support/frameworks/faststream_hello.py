"""FastStream's hello world: a subscriber whose answers are published, run by `FastStream(broker).run()`.

Its process has FastStream and not fastlog: `python faststream_hello.py BOOTSTRAP TOPIC GROUP`. Prints a line for each
user; SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import sys

from faststream import FastStream
from faststream.kafka import KafkaBroker

bootstrap, topic, group = sys.argv[1:]
broker = KafkaBroker(bootstrap)
app = FastStream(broker)


@broker.subscriber(topic, group_id=group, auto_offset_reset="earliest")
@broker.publisher(f"{topic}-out")
async def registered(user: str, user_id: int) -> str:
    print(user_id, flush=True)
    return f"User: {user_id} - {user} registered"


if __name__ == "__main__":
    asyncio.run(app.run())
