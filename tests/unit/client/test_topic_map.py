"""Images of topics are mappings that stay as they are, whatever is made of them."""

from __future__ import annotations

import random

from fastlog.client.topic_map import TopicMap


def test_each_image_stays_as_it_was_while_thousands_follow_it() -> None:
    chance = random.Random(8)
    topics = TopicMap[int]()
    expected: dict[str, int] = {}
    kept: list[tuple[TopicMap[int], dict[str, int]]] = []
    for number in range(2_000):
        # new topics one by one as a rule, now and then several, some of them known
        changes = {f"t{chance.randrange(number + 1)}": number for _ in range(chance.choice((1, 1, 1, 40)))}
        topics, expected = topics.with_topics(changes), {**expected, **changes}
        if number % 97 == 0:
            kept.append((topics, expected))
    for image, wanted in [*kept, (topics, expected)]:
        assert dict(image) == wanted
        assert len(image) == len(wanted) == len(list(image))
        assert all(
            image[name] == image.get(name) == value and name in image for name, value in wanted.items()
        )
        assert image == TopicMap(wanted)


def test_what_is_not_there_is_not_found() -> None:
    topics = TopicMap({"a": 1}).with_topics({"b": 2})
    assert (topics.get("c"), topics.get("c", 3), "c" in topics) == (None, 3, False)


def test_one_more_of_thousands_shares_the_others() -> None:
    topics = TopicMap({str(number): number for number in range(10_000)})
    copied = 0
    for number in range(10_000, 20_000):
        before, topics = topics, topics.with_topics({str(number): number})
        copied += len(topics._recent) if topics._rest is before._rest else len(topics._rest)
    # one dictionary for all would be copied 10,000 times: 150 million entries
    assert copied < 4_000_000
    assert len(topics) == 20_000
