"""``import onibus``: what it offers, and that its examples do what the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import onibus
from onibus.infra.settings import Settings, environment_of
from onibus.schemas.ids import caption_id
from tests.recorded.topics import publish

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "infra" / "docs" / "python.md"
RECORDED = ROOT / "tests" / "recorded" / "v0_1_0" / "topics.avro"
KEY = "You see here a key named The Master Key of Thievery."

NAMES = [
    "AnnotationSpec",
    "Answer",
    "CaptionWrapper",
    "LabelLookup",
    "OnibusError",
    "Question",
    "RewardBatch",
    "Settings",
    "Transition",
    "Verdict",
    "__version__",
    "annotations",
    "captions",
    "episodes",
    "labels",
    "load_settings",
    "register_task",
    "reward_updates",
]
"""Adding one is a promise; taking one away breaks other people's programs."""


@pytest.fixture
def recorded(settings: Settings) -> Settings:
    """Settings whose topics hold a recording."""
    publish(settings, RECORDED)
    return settings


def test_the_names_are_these() -> None:
    assert onibus.__all__ == NAMES == dir(onibus)
    for name in NAMES:
        assert getattr(onibus, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = onibus.nothing


def test_importing_it_loads_no_library() -> None:
    script = "import onibus, sys; print(sorted({'numpy', 'kafka', 'pydantic', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_table_has_its_rows_and_types(recorded: Settings) -> None:
    captions = onibus.captions(settings=recorded)
    assert captions.num_rows == 36
    assert str(captions.schema.field("observed_at").type) == "timestamp[us, tz=UTC]"
    ids = {row["text"]: row["caption_id"] for row in captions.to_pylist()}
    assert ids[KEY] == caption_id(KEY).hex()
    assert onibus.captions(run="old-ranking", settings=recorded).num_rows == 18

    annotations = onibus.annotations(settings=recorded)
    assert annotations.num_rows == 80
    assert set(annotations["in_force"].to_pylist()) == {True}
    assert set(annotations["spec"].to_pylist()) == {"keys-and-doors", "keys-and-doors-pairs"}

    labels = onibus.labels(spec="keys-and-doors", settings=recorded)
    assert {row["caption"]: row["verdict"] for row in labels.to_pylist()}[KEY] == "helpful"
    assert labels.num_rows == 18
    assert set(onibus.labels(spec="keys-and-doors-pairs", settings=recorded)["caption"].to_pylist()) == {None}

    assert onibus.episodes(settings=recorded).num_rows == 40
    assert str(onibus.episodes(settings=recorded).schema.field("actions").type) == "binary"
    updates = onibus.reward_updates(settings=recorded).to_pylist()
    assert [update["version"] for update in updates] == [1, 1]
    assert dict(updates[0]["metrics"])["loss"] > 0


def test_an_export_gives_the_same_tables_as_the_cluster(recorded: Settings, tmp_path: Path) -> None:
    from tests.consumers.replay.running import onibus as command

    command(recorded, "labels", "set", KEY, "unhelpful", "--spec", "keys-and-doors")
    file = tmp_path / "annotations.parquet"
    command(recorded, "labels", "export", file)
    for spec in (None, "keys-and-doors"):
        for table in (onibus.annotations, onibus.labels):
            order = [("spec", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
            live = table(spec=spec, settings=recorded).sort_by(order)
            assert table(file, spec=spec).sort_by(order).equals(live)
    answers = onibus.annotations(file, spec="keys-and-doors").to_pylist()
    decided = {row["origin"]: row["in_force"] for row in answers if row["texts"] == [KEY]}
    assert decided == {"rules": False, "human": True}


def test_labels_are_looked_up_as_they_come(recorded: Settings) -> None:
    from tests.consumers.replay.running import onibus as command
    from tests.waiting import wait_until

    with onibus.LabelLookup("keys-and-doors", settings=recorded) as lookup:
        assert len(lookup) == 18
        assert lookup.verdicts([KEY, "not on the log"]) == [onibus.Verdict.HELPFUL, None]
        command(recorded, "labels", "set", KEY, "unhelpful", "--spec", "keys-and-doors")
        wait_until(lambda: lookup.verdict(KEY) is onibus.Verdict.UNHELPFUL, 20, "the correction")


def test_what_is_not_there_is_an_error_in_one_line(recorded: Settings, tmp_path: Path) -> None:
    with pytest.raises(onibus.OnibusError, match="there is no spec nothing"):
        onibus.labels(spec="nothing", settings=recorded)
    with pytest.raises(onibus.OnibusError, match="there is no file"):
        onibus.annotations(tmp_path / "none.parquet")


def examples() -> list[str]:
    """The Python programs of the page."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(examples())))
def test_the_examples_of_the_page_run(number: int, recorded: Settings, tmp_path: Path) -> None:
    from tests.consumers.replay.running import onibus as command

    command(recorded, "labels", "export", tmp_path / "annotations.parquet")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", examples()[number]],
        env=environment_of(recorded),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
