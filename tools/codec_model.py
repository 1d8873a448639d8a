"""schema/messages.json as objects: what all the code generators share."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# bytes that a value takes on the wire; strings, bytes and arrays are in `least_bytes`
FIXED_BYTES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "float64": 8,
    "uuid": 16,
}


@dataclass(frozen=True)
class Range:
    """Versions from `low` to `high`, both inclusive; empty where high < low."""

    low: int
    high: int

    def __contains__(self, version: int) -> bool:
        return self.low <= version <= self.high

    def __bool__(self) -> bool:
        return self.low <= self.high

    def __iter__(self) -> Any:
        return iter(range(self.low, self.high + 1))

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


EMPTY = Range(0, -1)


def parse_range(text: str | None, within: Range) -> Range:
    """`text` ("3+", "0-12", "4" or nothing) as far as it lies in `within`."""
    if not text or text == "none":
        return EMPTY
    match = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    if not match:
        raise SystemExit(f"not a range of versions: {text}")
    low = int(match[1])
    high = within.high if match[2] == "+" else int(match[3] or low)
    return Range(max(low, within.low), min(high, within.high))


def snake(name: str) -> str:
    """`ThrottleTimeMs` as `throttle_time_ms`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@dataclass(frozen=True)
class Field:
    """One field of a struct; `kind` is a primitive's name or `struct`."""

    name: str
    kind: str
    is_array: bool
    struct: Struct | None
    versions: Range
    nullable: Range
    tag: int | None
    default: Any
    """None where the schema says null, else a value; `...` where it says nothing."""

    @cached_property
    def attribute(self) -> str:
        """The field's name in our code."""
        return snake(self.name)

    def least_bytes(self, version: int, flexible: bool) -> int:
        """The fewest bytes that the field takes in `version`."""
        if version not in self.versions:
            return 0
        if self.tag is not None:
            return 0
        if self.is_array or self.kind in ("bytes", "records"):
            return 1 if flexible else 4
        if self.kind == "string":
            return 1 if flexible else 2
        if self.struct:
            return 1 if version in self.nullable else self.struct.least_bytes_in(version)
        return FIXED_BYTES[self.kind]

    def element_least_bytes(self, api: Api) -> int:
        """The fewest bytes that one element of this array takes in any version."""
        if self.struct:
            return self.struct.least_bytes
        if self.kind == "string":
            return 1 if api.is_flexible(api.versions.high) else 2
        return FIXED_BYTES[self.kind]


@dataclass
class Struct:
    """A message, or a struct inside one."""

    name: str
    api: Api
    is_message: bool = False
    fields: list[Field] = field(default_factory=list)

    def least_bytes_in(self, version: int) -> int:
        """The fewest bytes that it takes in `version`."""
        flexible = self.api.is_flexible(version)
        return sum(f.least_bytes(version, flexible) for f in self.fields) + flexible

    @cached_property
    def least_bytes(self) -> int:
        """The fewest bytes that it takes in any version."""
        present = [v for v in self.api.versions if any(v in f.versions for f in self.fields)]
        return max(1, min((self.least_bytes_in(v) for v in present), default=1))

    @cached_property
    def records_field(self) -> Field | None:
        """The field that leads to record bytes, if any."""
        for f in self.fields:
            if f.kind == "records" or (f.struct and f.struct.records_field):
                return f
        return None


@dataclass
class Api:
    """An API: its key, name, versions and both messages."""

    key: int
    name: str
    versions: Range
    flexible: int | None
    request: Struct = field(init=False)
    response: Struct = field(init=False)

    def is_flexible(self, version: int) -> bool:
        """Whether `version` has compact lengths and tagged fields."""
        return self.flexible is not None and version >= self.flexible

    @property
    def module(self) -> str:
        """The name of the API's module in our code."""
        return snake(self.name)

    @property
    def messages(self) -> list[Struct]:
        """Request and response."""
        return [self.request, self.response]

    @cached_property
    def structs(self) -> list[Struct]:
        """All structs of both messages, each once, inner ones first."""
        found: list[Struct] = []

        def visit(struct: Struct) -> None:
            for f in struct.fields:
                if f.struct:
                    visit(f.struct)
            if struct not in found:
                found.append(struct)

        for message in self.messages:
            visit(message)
        return found


class Builder:
    """Builds the structs of one API; a struct of both messages becomes one, if both say the same."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.structs: dict[str, Struct] = {}

    def message(self, row: dict[str, Any]) -> Struct:
        """The message in `row`."""
        self.common = row.get("common", {})
        message = self.struct(row["name"], row["fields"])
        message.is_message = True
        return message

    def struct(self, name: str, rows: list[dict[str, Any]]) -> Struct:
        """The struct `name` with the fields `rows`."""
        fields = [f for row in rows if (f := self.field(row)).versions]
        known = self.structs.setdefault(name, Struct(name, self.api, fields=fields))
        if known.fields != fields:
            raise SystemExit(f"{self.api.name} has two different structs named {name}")
        return known

    def field(self, row: dict[str, Any]) -> Field:
        """The field in `row`, its versions clipped to the API's."""
        kind = row["type"].removeprefix("[]")
        rows = row.get("fields") or self.common.get(kind)
        versions = parse_range(row["versions"], self.api.versions)
        return Field(
            name=row["name"],
            kind="struct" if rows else kind,
            is_array=row["type"].startswith("[]"),
            struct=self.struct(kind, rows) if rows else None,
            versions=versions,
            nullable=parse_range(row.get("nullable"), versions),
            tag=row.get("tag"),
            default=row.get("default", ...),
        )


def load() -> list[Api]:
    """All APIs of the table, by key."""
    table = json.loads((ROOT / "schema/messages.json").read_text())
    apis = []
    for row in table["apis"]:
        low, _, high = row["versions"].partition("-")
        api = Api(row["key"], row["name"], Range(int(low), int(high)), row["flexible"])
        builder = Builder(api)
        api.request = builder.message(row["request"])
        api.response = builder.message(row["response"])
        apis.append(api)
    return apis
