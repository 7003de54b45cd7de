"""Which pairs are compared: each led to by one of its two captions, in one connected graph, fairly shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Pair, Partner
from onibus.schemas.ids import caption_id, leader_of, order_of, pair_id


def texts(count: int) -> list[str]:
    return [f"caption {n}" for n in range(count)]


def fill(pool: ComparisonPartners, captions: Sequence[str], start: int = 0) -> None:
    for n, text in enumerate(captions, start):
        pool.add([Partner(caption_id(text), text, n % 4, n)])


def pairs(pool: ComparisonPartners, text: str, most: int = 3) -> list[Pair]:
    return pool.pairs(caption_id(text), text, most)


def components(captions: Sequence[str], edges: Sequence[tuple[str, str]]) -> int:
    """Number of connected components, by union of sets."""
    group = {text: {text} for text in captions}
    for one, other in edges:
        joined = group[one] | group[other]
        for text in joined:
            group[text] = joined
    return len({id(members) for members in group.values()})


@given(st.integers(2, 60), st.integers(1, 4), st.randoms())
def test_all_comparisons_together_are_one_connected_graph_once_each_caption_came_up_again(
    count: int, most: int, random: object
) -> None:
    captions = texts(count)
    shuffled = sorted(captions, key=lambda _: random.random())  # type: ignore[attr-defined]
    pool, led = ComparisonPartners(), dict[str, list[Pair]]()
    for text in [*shuffled, *captions]:
        fill(pool, [text])
        led[text] = led.get(text) or pairs(pool, text, most)  # once, as soon as there is a partner
    edges = [(pair.first, pair.second) for led_to in led.values() for pair in led_to]
    assert components(captions, edges) == 1


@given(st.sets(st.integers(0, 99), min_size=2), st.sets(st.integers(0, 99), min_size=2))
def test_no_pair_is_led_to_from_both_its_captions_whatever_annotators_have_read(
    one: set[int], other: set[int]
) -> None:
    pools = [ComparisonPartners(), ComparisonPartners()]
    led_by: dict[frozenset[str], set[str]] = {}
    for pool, known in zip(pools, (one, other), strict=True):
        fill(pool, [f"caption {n}" for n in sorted(known)])
        for text in texts(100):
            for pair in pairs(pool, text):
                led_by.setdefault(frozenset((pair.first, pair.second)), set()).add(text)
                assert leader_of((pair.first, pair.second)) == caption_id(text)
    assert all(len(leaders) == 1 for leaders in led_by.values())


def test_a_caption_has_the_same_pairs_of_the_same_captions_in_whatever_order_they_were_read() -> None:
    pools = [ComparisonPartners(), ComparisonPartners()]
    fill(pools[0], texts(20))
    fill(pools[1], list(reversed(texts(20))))
    for text in texts(20):
        found = [[pair.subject_id for pair in pairs(pool, text)] for pool in pools]
        assert found[0] == found[1]
        assert len(set(found[0])) == len(found[0])


def test_the_caption_of_least_id_leads_to_nothing_and_none_is_compared_with_itself() -> None:
    pool = ComparisonPartners()
    fill(pool, ["only"])
    assert pairs(pool, "only") == []
    fill(pool, texts(10), 1)
    least = min(["only", *texts(10)], key=lambda text: order_of(caption_id(text)))
    assert pairs(pool, least) == []
    assert all(pair.first != pair.second for text in texts(10) for pair in pairs(pool, text))


def test_the_leading_caption_is_shown_first_in_half_of_the_pairs() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(1_000))
    first = [pair.first == text for text in texts(1_000) for pair in pairs(pool, text)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.03)


def test_the_subject_names_the_pair_in_the_order_in_which_it_is_shown() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(10))
    greatest = max(texts(10), key=lambda text: order_of(caption_id(text)))
    for pair in pairs(pool, greatest):
        assert pair.subject_id == pair_id(caption_id(pair.first), caption_id(pair.second))
        assert pair.partner.text in (pair.first, pair.second)


def test_the_pool_is_bounded_and_keeps_the_captions_of_least_id() -> None:
    pools = [ComparisonPartners(capacity=40), ComparisonPartners(capacity=40)]
    fill(pools[0], texts(200))
    fill(pools[1], list(reversed(texts(200))))
    least = sorted(texts(200), key=lambda text: order_of(caption_id(text)))[:20]
    for pool in pools:
        assert len(pool) <= 50
        assert not any(pool.wants(caption_id(text)) for text in least)
