"""Which pairs are compared: the same whoever asks, each once, in one connected graph, fairly shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.annotator.comparison_partners import ComparisonPartners, Pair, Partner
from onibus.schemas.ids import caption_id, pair_id


def texts(count: int) -> list[str]:
    return [f"caption {n}" for n in range(count)]


def fill(pool: ComparisonPartners, captions: Sequence[str], start: int = 0) -> None:
    for n, text in enumerate(captions, start):
        pool.add([Partner(caption_id(text), text, n % 4, n)], [1_000 + n])


def pairs(pool: ComparisonPartners, text: str, observed_at: int = 10**9, most: int = 3) -> list[Pair]:
    return pool.pairs(caption_id(text), text, observed_at, most)


def components(captions: Sequence[str], edges: Sequence[tuple[str, str]]) -> int:
    """Number of connected components, by union of sets."""
    group = {text: {text} for text in captions}
    for one, other in edges:
        joined = group[one] | group[other]
        for text in joined:
            group[text] = joined
    return len({id(members) for members in group.values()})


@given(st.integers(2, 60), st.integers(1, 4), st.randoms())
def test_all_comparisons_together_are_one_connected_graph_however_they_arrive(
    count: int, most: int, random: object
) -> None:
    captions = texts(count)
    shuffled = sorted(captions, key=lambda _: random.random())  # type: ignore[attr-defined]
    pool, edges = ComparisonPartners(), []
    for n, text in enumerate(shuffled):
        fill(pool, [text], n)
        edges += [(pair.first, pair.second) for pair in pairs(pool, text, 1_000 + n, most)]
    assert components(captions, edges) == 1


def test_a_caption_has_the_same_pairs_again_whatever_came_after_it() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(20))
    before = pairs(pool, "caption 19")
    fill(pool, [f"later {n}" for n in range(50)], 20)
    assert pairs(pool, "caption 19") == before
    assert len({pair.subject_id for pair in before}) == 3
    other = ComparisonPartners()
    for n in reversed(range(20)):  # other partitions may have been read first
        other.add([Partner(caption_id(f"caption {n}"), f"caption {n}", n % 4, n)], [1_000 + n])
    assert pairs(other, "caption 19") == before


def test_no_pair_is_led_to_from_both_its_captions() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(100))
    found = [frozenset((p.first, p.second)) for text in texts(100) for p in pairs(pool, text)]
    assert len(found) == len(set(found))


def test_the_first_caption_leads_to_nothing_and_none_is_compared_with_itself() -> None:
    pool = ComparisonPartners()
    fill(pool, ["only"])
    assert pairs(pool, "only") == []
    fill(pool, texts(10), 1)
    assert all(pair.first != pair.second for text in texts(10) for pair in pairs(pool, text))


def test_the_later_caption_is_shown_first_in_half_of_the_pairs() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(1_000))
    first = [pair.first == text for text in texts(1_000) for pair in pairs(pool, text)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.03)


def test_the_subject_names_the_pair_in_the_order_in_which_it_is_shown() -> None:
    pool = ComparisonPartners()
    fill(pool, texts(10))
    for pair in pairs(pool, "caption 9"):
        assert pair.subject_id == pair_id(caption_id(pair.first), caption_id(pair.second))
        assert pair.partner.text in (pair.first, pair.second)


def test_the_pool_is_bounded_and_keeps_the_same_captions_for_everybody() -> None:
    pools = [ComparisonPartners(capacity=40), ComparisonPartners(capacity=40)]
    fill(pools[0], texts(200))
    fill(pools[1], list(reversed(texts(200))))
    least = sorted(texts(200), key=lambda text: int.from_bytes(caption_id(text)[:8], "little"))[:20]
    for pool in pools:
        assert len(pool) <= 50
        assert not any(pool.wants(caption_id(text)) for text in least)
