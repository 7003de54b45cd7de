"""Versions cut into chunks and put together again, whatever arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.consumers.reward_models.transfer import (
    CHUNK_BYTES,
    MOST_PARTIAL,
    Assembler,
    WholeFile,
    cut,
    model_name,
    split_model_name,
)
from onibus.schemas import codec
from onibus.schemas.records import RewardModelChunk

FILES = {version: bytes([version]) * (2 * CHUNK_BYTES + version) for version in (1, 2, 3)}


def put_together(assembler: Assembler, chunks: list[RewardModelChunk]) -> list[WholeFile]:
    return [whole for chunk in chunks if (whole := assembler.add(chunk)) is not None]


def test_a_chunk_is_a_record_under_512_kib() -> None:
    assert all(len(codec.encode(chunk)) < 512 * 1024 for chunk in cut("m", 1, FILES[1]))


@given(st.permutations([chunk for version in (1, 2) for chunk in cut("m", version, FILES[version])]))
def test_interleaved_versions_come_out_whole_and_never_backwards(chunks: list[RewardModelChunk]) -> None:
    assembler = Assembler()
    whole = put_together(assembler, chunks)
    assert [w.version for w in whole] in ([1, 2], [2])
    assert all(w.data == FILES[w.version] for w in whole)
    assert assembler.corrupt == 0
    assert assembler.torn <= 1


def test_a_torn_version_is_counted_and_the_next_one_taken() -> None:
    assembler = Assembler()
    assert not put_together(assembler, cut("m", 1, FILES[1])[:-1])
    (whole,) = put_together(assembler, cut("m", 2, FILES[2]))
    assert (whole.version, assembler.torn, assembler.corrupt) == (2, 1, 0)


def test_a_corrupt_version_is_counted_and_skipped() -> None:
    assembler = Assembler()
    good, bad, last = cut("m", 1, FILES[1])
    assert not put_together(assembler, [good, replace(bad, data=b"x" + bad.data[1:]), last])
    assert assembler.corrupt == 1
    assert put_together(assembler, cut("m", 2, FILES[2]))


@pytest.mark.parametrize(("chunk", "chunks"), [(-1, 3), (3, 3), (0, 0), (0, 100_000)])
def test_a_chunk_that_fits_nothing_is_corrupt(chunk: int, chunks: int) -> None:
    assembler = Assembler()
    assert assembler.add(replace(cut("m", 1, b"data")[0], chunk=chunk, chunks=chunks)) is None
    assert assembler.corrupt == 1


def test_memory_is_bounded_when_no_version_is_ever_whole() -> None:
    assembler = Assembler()
    for version in range(1, 50):
        put_together(assembler, cut("m", version, FILES[1])[:1])
    assert assembler.torn == 49 - MOST_PARTIAL


def test_models_do_not_mix() -> None:
    assembler = Assembler()
    one, other = cut("one", 1, FILES[1]), cut("other", 1, FILES[2])
    whole = put_together(assembler, [c for pair in zip(one, other, strict=True) for c in pair])
    assert {w.model: w.data for w in whole} == {"one": FILES[1], "other": FILES[2]}


def test_a_models_name_tells_its_specification() -> None:
    assert split_model_name(model_name("keys-and-doors", bytes(range(8)))) == (
        "keys-and-doors",
        bytes(range(8)),
    )
