"""send_many against a plain list: any records, in any form, cut into any calls, with any batches failing."""

from __future__ import annotations

import array
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastlog.client.producer.partitioner import murmur2
from fastlog.errors import FastlogError
from fastlog.native._column import Column
from tests.support.sending import StillProducer

PARTITIONS = 3
strings = st.one_of(st.binary(max_size=20), st.integers(0, 1500).map(lambda size: b"v" * size))


def as_column(values: list[bytes]) -> Column:
    return Column(b"".join(values), array.array("i", itertools.accumulate(map(len, values), initial=0)))


@st.composite
def calls(draw: Any) -> tuple[list[Any], list[Any] | None, int | None, Any]:
    form = draw(st.sampled_from([list, tuple, iter, as_column]))
    item = strings if form is as_column else strings | st.none()
    values = draw(st.lists(item, max_size=30))
    keys = draw(st.none() | st.lists(item, min_size=len(values), max_size=len(values)))
    return values, keys, draw(st.none() | st.integers(0, PARTITIONS - 1)), form


@given(st.lists(calls(), max_size=6), st.sets(st.tuples(st.integers(0, 2), st.integers(0, 3))))
def test_each_record_is_where_the_delivery_says_or_among_those_that_failed(
    made: list[Any], failing: set[tuple[int, int]]
) -> None:
    producer = StillProducer(PARTITIONS)
    deliveries = []
    for values, keys, partition, form in made:
        given_keys = None if keys is None else form(keys)
        deliveries.append(producer.send_many(form(values), given_keys, partition=partition))
    lost = FastlogError("lost")
    logs = producer.settle(dict.fromkeys(failing, lost))

    claimed: set[tuple[int, int]] = set()
    for (values, keys, partition, _), delivery in zip(made, deliveries, strict=True):
        error = delivery.exception(0)
        metadata = delivery.result(0) if error is None else error.delivered
        errors = {} if error is None else error.errors
        assert set(errors.values()) <= {lost}
        assert metadata.count + len(errors) == len(delivery) == len(values)
        kept = [
            (None if keys is None else keys[number], value)
            for number, value in enumerate(values)
            if number not in errors
        ]
        found = []
        for at, ranges in metadata.offsets.items():
            offsets = [offset for one in ranges for offset in one]
            assert offsets == sorted(offsets)
            assert len(offsets) == metadata.counts[at]
            claimed |= {(at, offset) for offset in offsets}
            mine = [(logs[at][offset].key, logs[at][offset].value) for offset in offsets]
            # the order within a partition is that of the list
            rest = iter(kept)
            assert all(record in rest for record in mine)
            for key, _ in mine:
                assert partition in (None, at)
                assert partition is not None or key is None or murmur2(key, PARTITIONS) == at
            found += mine
        order = {record: number for number, record in enumerate(kept)}
        assert sorted(found, key=order.__getitem__) == sorted(kept, key=order.__getitem__)
    assert claimed == {(at, offset) for at, log in logs.items() for offset in range(len(log))}
