"""Turns the message schemas inside a kafka-clients jar into schema/messages.json, our one table of the wire.

Only facts are taken: names, types, versions, nullability, tags and defaults. Run it when a new Kafka is to be
spoken, then run tools/generate_codec.py:

    python tools/import_schemas.py kafka-clients-4.4.0.jar
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "schema/messages.json"

# The APIs that any client, the common tools, transactions and KIP-848 groups use, and SASL.
APIS = frozenset(
    [*range(4), *range(8, 27), 28, *range(32, 38), *range(42, 48), 55, 60, 61, 65, 66, 68, 69, 74, 75]
)

# What ours adds to Kafka's messages, as (message, struct, field).
OWN_FIELDS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "MetadataResponse",
        "MetadataResponseBroker",
        {
            "name": "ZmqEndpoint",
            "type": "string",
            "versions": "9+",
            "nullable": "9+",
            "tag": 10000,
            "default": None,
        },
    ),
]


def read_json(text: str) -> dict[str, Any]:
    """The schema in `text`, whose comments fill whole lines."""
    schema: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return schema


def default_of(field: dict[str, Any]) -> dict[str, Any]:
    """The field's default as a value of JSON; schemas write all of them as strings, and `null` as \"null\"."""
    text = field.get("default")
    if text is None:
        return {}
    if text == "null":
        return {"default": None}
    if field["type"] == "bool":
        return {"default": text in ("true", True)}
    if field["type"].startswith(("int", "uint")):
        return {"default": int(str(text), 0)}
    return {"default": text}


def field_of(field: dict[str, Any]) -> dict[str, Any]:
    """The facts of one field, nested ones included."""
    row: dict[str, Any] = {"name": field["name"], "type": field["type"], "versions": field["versions"]}
    if "nullableVersions" in field:
        row["nullable"] = field["nullableVersions"]
    if "tag" in field:
        if field["taggedVersions"] != field["versions"]:
            raise SystemExit(
                f"{field['name']}: tagged in only some of its versions, which no generator here knows"
            )
        row["tag"] = field["tag"]
    if "flexibleVersions" in field:
        row["flexible"] = field["flexibleVersions"]
    row |= default_of(field)
    if field.get("fields"):
        row["fields"] = [field_of(inner) for inner in field["fields"]]
    return row


def add_own(message: str, struct: str, fields: list[dict[str, Any]]) -> None:
    """Appends our own fields to the struct named `struct` and to those inside it."""
    fields += [
        own for own_message, own_struct, own in OWN_FIELDS if (own_message, own_struct) == (message, struct)
    ]
    for field in fields:
        if "fields" in field:
            add_own(message, field["type"].removeprefix("[]"), field["fields"])


def message_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The facts of one request, response or header."""
    fields = [field_of(field) for field in schema["fields"]]
    add_own(schema["name"], schema["name"], fields)
    common = {
        struct["name"]: [field_of(field) for field in struct["fields"]]
        for struct in schema.get("commonStructs", [])
    }
    return {"name": schema["name"], "fields": fields} | ({"common": common} if common else {})


def stable_versions(request: dict[str, Any]) -> str:
    """The request's versions without the last one where that is marked unstable."""
    low, _, high = request["validVersions"].partition("-")
    last = int(high or low) - bool(request.get("latestVersionUnstable"))
    return f"{low}-{last}"


def table_of(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The whole table, ordered by API key."""
    requests = {s["apiKey"]: s for s in schemas.values() if s["type"] == "request" and s["apiKey"] in APIS}
    missing = sorted(APIS - set(requests))
    if missing:
        raise SystemExit(f"the jar has no schema for API keys {missing}: is it kafka-clients 4.0 or newer?")
    apis = []
    for key, request in sorted(requests.items()):
        name = request["name"].removesuffix("Request")
        flexible = request["flexibleVersions"]
        apis.append(
            {
                "key": key,
                "name": name,
                "versions": stable_versions(request),
                "flexible": None if flexible == "none" else int(flexible.rstrip("+")),
                "request": message_of(request),
                "response": message_of(schemas[f"{name}Response"]),
            }
        )
    headers = [message_of(schemas[name]) for name in ("RequestHeader", "ResponseHeader")]
    return {"headers": headers, "apis": apis}


def render(value: Any, indent: int = 0) -> str:
    """JSON with one line for each field, so that a change of the protocol reads well as a diff."""
    text = json.dumps(value)
    if len(text) + indent <= 110 and '"fields"' not in text:
        return text
    pad = " " * (indent + 1)
    if isinstance(value, list):
        return "[\n" + ",\n".join(pad + render(item, indent + 1) for item in value) + f"\n{' ' * indent}]"
    plain = {k: v for k, v in value.items() if not isinstance(v, list | dict)}
    nested = {k: v for k, v in value.items() if k not in plain}
    parts = [json.dumps(plain)[1:-1]] if plain else []
    parts += [f"{json.dumps(k)}: {render(v, indent + 1)}" for k, v in nested.items()]
    return "{" + f",\n{pad}".join(parts) + "}"


def main() -> int:
    """Reads the jar named on the command line and writes the table."""
    if len(sys.argv) != 2:
        print("usage: python tools/import_schemas.py KAFKA-CLIENTS.jar", file=sys.stderr)
        return 2
    with zipfile.ZipFile(sys.argv[1]) as jar:
        names = [name for name in jar.namelist() if re.fullmatch(r"common/message/\w+\.json", name)]
        schemas = {Path(name).stem: read_json(jar.read(name).decode()) for name in names}
    TARGET.write_text(render(table_of(schemas)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
