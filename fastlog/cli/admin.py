"""What the commands share that administer a cluster: the client, a step for each name, changes of settings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastlog.cli import report
from fastlog.errors import InvalidConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastlog.client.admin import Admin

# a person waits: shorter than a program's ten seconds
BOOTSTRAP_MS = 5_000
REQUEST_MS = 30_000


def admin_at(bootstrap: str, request_timeout_ms: float = REQUEST_MS) -> Admin:
    """The client that the commands use; imported when one runs."""
    from fastlog.client.admin import Admin

    return Admin(
        bootstrap,
        client_id="fastlog-cli",
        request_timeout_ms=request_timeout_ms,
        bootstrap_timeout_ms=BOOTSTRAP_MS,
    )


def change_settings(
    admin: Admin,
    changes: Mapping[str, str | None],
    *,
    topic: str | None = None,
    broker: int | None = None,
    group: str | None = None,
) -> None:
    """Sets settings, and puts those that are None back; raises InvalidConfigError for an unknown one of these.

    Brokers, Apache Kafka's too, say nothing to the deletion of a setting that they do not know.
    """
    unset = [key for key, value in changes.items() if value is None]
    if unset:
        from fastlog.client.admin.admin import resource, resource_text
        from fastlog.config import nearest

        known = admin.describe_configs(topic=topic, broker=broker, group=group)
        for key in unset:
            if key not in known:
                whose = resource_text(*resource(topic, broker, group))
                raise InvalidConfigError(
                    f"putting {key} of {whose} back: unknown setting{nearest(key, known)}"
                )
    admin.alter_configs(changes, topic=topic, broker=broker, group=group)


def each(
    label: str, names: Sequence[str], act: Callable[[str], None], document: Mapping[str, object] | None
) -> None:
    """Does something to everything that is named, with a progress bar where there are many.

    `document` is what `act` fills and --json prints, None without --json. It is printed though one is refused: it
    tells what was done before.
    """
    try:
        with report.progress(label, len(names) if len(names) > 1 else None, beside=sys.stdout) as advance:
            for name in names:
                act(name)
                advance(1)
    finally:
        if document is not None:
            report.print_json(document)
