"""The folder of ``onibus judge-model make``: nothing of the user's is replaced by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import run_onibus, the_one_line


@pytest.mark.parametrize("place", ["a-file", "a-folder"])
def test_what_lies_there_already_is_not_replaced(tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").write_text("mine")
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-folder" / "mine").write_text("mine")
    line = the_one_line(run_onibus("judge-model", "make", place, folder=tmp_path))
    assert f"{place} holds something else; give a folder that is empty or does not exist" in line
    assert (tmp_path / "a-file").read_text() == (tmp_path / "a-folder" / "mine").read_text() == "mine"
