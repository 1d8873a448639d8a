"""What one setting is, and how the text of a value is read."""

from __future__ import annotations

import re

import msgspec

from fastlog.errors import ConfigError

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

INTEGER_LIMITS = {"short": 2**15 - 1, "int": INT_MAX, "long": LONG_MAX}

Value = bool | int | float | str | tuple[str, ...]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table, schema/settings*.toml."""

    name: str
    """The broker's key."""
    topic: str | None = None
    """The key of the same setting on one topic; None where topics have none."""
    group: str | None = None
    """The key of the same setting on one group; None where groups have none."""
    only: str | None = None
    """"topic" or "group" where `name` is a key of those, and brokers have none."""
    type: str
    """One of boolean, short, int, long, double, string, list, class, password."""
    unit: str | None = None
    """What a number counts; None for a plain number or no number."""
    default: str | None = None
    """The default as text; None is not set."""
    topic_default: str | None = None
    """The default that topics show where the broker's key has none; None is the broker's."""
    minimum: float | None = None
    """The least value, inclusive; None is the type's own."""
    maximum: float | None = None
    """The greatest value, inclusive; None is the type's own."""
    excluded: tuple[int, ...] = ()
    """Numbers between the two that are not accepted."""
    values: tuple[str, ...] = ()
    """The words accepted (for a list: for each element); empty is any."""
    pattern: str | None = None
    """The regular expression that each element of a list matches as a whole; None is any."""
    any_case: bool = False
    """Whether the words are accepted in small and large letters alike."""
    update: str = "read-only"
    """How the broker's key may be changed while brokers run: read-only, per-broker, or cluster-wide, which is both."""
    status: str = "honoured"
    """honoured; no-meaning: any value is taken and none does anything; refused: only the default is taken."""
    why: str | None = None
    """Why a setting is not honoured."""
    internal: bool = False
    """Whether it is described only where it is set."""
    converts_to: str | None = None
    """The setting that this one gives in a coarser unit, where that one is not set."""
    factor: int = 1
    """What a value is multiplied by for `converts_to`."""
    doc: str
    """What it does."""
    differs: str | None = None
    """Why the default or the range is not Apache Kafka's; None where it is the same."""

    @property
    def is_dynamic(self) -> bool:
        """Whether the broker's key may be changed while brokers run."""
        return self.update != "read-only"

    @property
    def is_honoured(self) -> bool:
        """Whether a value does anything."""
        return self.status == "honoured"

    @property
    def is_sensitive(self) -> bool:
        """Whether values are secrets, which are told to nobody."""
        return self.type == "password"

    def accept(self, key: str, text: str) -> Value:
        """As `parse`, for a value that is to be set: ConfigError also for what is refused."""
        value = self.parse(key, text)
        if self.status == "refused" and value != self._default(key):
            only = f"it takes only {self.default}" if self.default else "leave it out"
            raise ConfigError(f"{key}={self._shown(text)}: {self.why}; {only}")
        return value

    def _default(self, key: str) -> Value | None:
        return None if self.default is None else self.parse(key, self.default)

    def _shown(self, text: str) -> str:
        return "(hidden)" if self.is_sensitive else text

    def parse(self, key: str, text: str) -> Value:
        """The value that `text` stands for; `key` names it in the ConfigError of a text that is none."""
        text = text.strip()
        if self.type == "boolean":
            return self._boolean(key, text)
        if self.type in INTEGER_LIMITS:
            return self._integer(key, text)
        if self.type == "double":
            return self._double(key, text)
        if self.type == "list":
            items = tuple(item for part in text.split(",") if (item := part.strip()))
            for item in items:
                self._check_word(key, item)
            return items
        self._check_word(key, text)
        return text

    def converted(self, text: str) -> str:
        """The value of `converts_to` that `text` gives; what is negative stays "no limit", -1."""
        number = int(text)
        return str(number * self.factor if number >= 0 else -1)

    def _boolean(self, key: str, text: str) -> bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise ConfigError(f"{key}={text}: not a boolean; it takes true or false")
        return lowered == "true"

    def _integer(self, key: str, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ConfigError(f"{key}={text}: not a whole number{self._unit_hint()}") from None
        self._check_range(key, number)
        return number

    def _double(self, key: str, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ConfigError(f"{key}={text}: not a number{self._unit_hint()}") from None
        if number != number:  # noqa: PLR0124  # the one value that differs from itself is NaN
            raise ConfigError(f"{key}={text}: not a number{self._unit_hint()}")
        self._check_range(key, number)
        return number

    def _unit_hint(self) -> str:
        return f" of {self.unit}" if self.unit else ""

    def _check_range(self, key: str, number: float) -> None:
        limit = INTEGER_LIMITS.get(self.type, LONG_MAX)
        low = -limit - 1 if self.minimum is None else self.minimum
        high = limit if self.maximum is None else self.maximum
        if low == high != number:
            raise ConfigError(f"{key}={number}: it takes only {low}")
        if not low <= number <= high or number in self.excluded:
            raise ConfigError(
                f"{key}={number}: out of range, it takes {low} to {high}{self._but()}{self._unit_hint()}"
            )

    def _but(self) -> str:
        return f" but {', '.join(map(str, self.excluded))}" if self.excluded else ""

    def _check_word(self, key: str, word: str) -> None:
        if self.any_case:
            word = word.upper()
        if self.values and word not in self.values:
            raise ConfigError(f"{key}={word}: it takes {', '.join(self.values)}")
        if self.pattern is not None and not re.fullmatch(self.pattern, word):
            raise ConfigError(f"{key}={word}: it takes what matches {self.pattern}")
