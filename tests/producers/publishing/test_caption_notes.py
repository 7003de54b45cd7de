"""Words of captions beside the bus: whoever has an id finds them, whatever a worker's file goes through."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onibus.infra.settings import Settings
from onibus.producers.publishing import caption_notes
from onibus.producers.publishing.caption_notes import Note, NotesReader, NotesWriter
from onibus.producers.publishing.caption_publisher import RolloutBus
from onibus.schemas.ids import caption_id, lookup_id
from tests.producers.publishing.test_caption_publisher import caption


def note(number: int, text: str | None = None) -> Note:
    return Note(number, f"caption {number}" if text is None else text, 1_000 + number)


def test_what_is_written_is_read_once_from_every_worker(tmp_path: Path) -> None:
    reader = NotesReader(tmp_path / "notes")
    assert [*reader.read()] == []
    writers = [NotesWriter(tmp_path / "notes" / f"worker-{n}") for n in range(3)]
    for number, writer in enumerate(writers):
        writer.write(note(number))
    assert sorted(reader.read()) == [note(0), note(1), note(2)]
    assert [*reader.read()] == []
    writers[1].write(note(7, "Ünïcödé ☃"))
    assert [*reader.read()] == [note(7, "Ünïcödé ☃")]
    writers[0].write(note(8, "x" * 70_000))
    (long,) = reader.read()
    assert len(long.text) == 65_535


@given(st.lists(st.integers(0, 12), max_size=20))
def test_files_that_are_begun_anew_lose_nothing_that_is_read_in_time(
    tmp_path_factory: pytest.TempPathFactory, bursts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("notes")
    largest, caption_notes.LARGEST_FILE = caption_notes.LARGEST_FILE, 400  # some 14 notes
    try:
        reader, writer, number = NotesReader(folder), NotesWriter(folder / "worker-0"), 0
        for burst in bursts:
            written = [note(number + n) for n in range(burst)]
            for one in written:
                writer.write(one)
            number += burst
            assert [*reader.read()] == written
        reader.close()
        writer.close()
    finally:
        caption_notes.LARGEST_FILE = largest
    assert all(path.stat().st_size < 500 for path in folder.iterdir())


def test_a_note_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    writer, reader = NotesWriter(tmp_path / "worker-0"), NotesReader(tmp_path)
    writer.write(note(1))
    whole = (tmp_path / "worker-0").read_bytes()
    (tmp_path / "worker-1").write_bytes(whole + whole[:9])
    assert [*reader.read()] == [note(1)] * 2
    with (tmp_path / "worker-1").open("ab") as file:
        file.write(whole[9:])
    assert [*reader.read()] == [note(1)]


def test_a_worker_that_starts_again_begins_its_file_anew(tmp_path: Path) -> None:
    reader = NotesReader(tmp_path)
    for number in range(3):
        NotesWriter(tmp_path / "worker-0").write(note(number))
        assert [*reader.read()] == [note(number)]


def play(settings: Settings, folder: Path, worker: int, captions: int, seen: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    bus = RolloutBus(settings, "run", "score", folder)
    for number in range(captions):
        one = caption(f"worker {worker} sees {number}")
        bus.observe(one, worker, 0, 0, number, 0)
        seen.put(one.lookup)
    bus.close(0.0)


def test_whoever_has_an_id_finds_its_words_without_any_broker(settings: Settings, tmp_path: Path) -> None:
    nowhere = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    context = multiprocessing.get_context("spawn")
    seen = context.Queue()
    workers = [context.Process(target=play, args=(nowhere, tmp_path, n, 300, seen)) for n in range(2)]
    for worker in workers:
        worker.start()
    reader, known = NotesReader(tmp_path), dict[int, str]()
    for _ in range(2 * 300):
        lookup = seen.get(timeout=60)
        if lookup not in known:
            known |= {one.lookup: one.text for one in reader.read()}
        assert lookup_id(caption_id(known[lookup])) == lookup
    for worker in workers:
        worker.join()
