"""Quix Streams' hello world: a streaming data frame over a topic of JSON, its rows counted by key, into another topic.

Its process has Quix Streams and not fastlog: `python quix_hello.py BOOTSTRAP TOPIC GROUP STATE_DIR`. Prints a line for
each user; SIGTERM ends it.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application, State

bootstrap, topic, group, state_dir = sys.argv[1:]


def registered(row: dict[str, Any], state: State) -> str:
    """The answer to one row; how many came before with its key is kept in a changelog topic."""
    seen = state.get("seen", 0) + 1
    state.set("seen", seen)
    print(row["user_id"], flush=True)
    return f"User: {row['user_id']} - {row['user']} registered, {seen} with this key"


if __name__ == "__main__":
    app = Application(
        broker_address=bootstrap, consumer_group=group, auto_offset_reset="earliest", state_dir=state_dir
    )
    users = app.topic(topic, value_deserializer="json")
    answers = app.topic(f"{topic}-out", value_serializer="string")
    frame = app.dataframe(users)
    frame.apply(registered, stateful=True).to_topic(answers)
    app.run()
