"""``onibus replay episode`` and ``rewards``: the same game again, with captions and what they are worth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onibus.consumers.replay.episode_rewards import CaptionReward
from onibus.infra.kafka import clients
from onibus.infra.settings import Settings
from onibus.learner.options import make_options, save_options
from onibus.learner.run_files.specs import keep_specs
from onibus.producers.nethack.playback import frames
from onibus.schemas import codec
from onibus.schemas.ids import caption_id, episode_key, label_key
from onibus.schemas.records import EpisodeFinished, Label, Verdict
from tests.consumers.replay.running import invoke, onibus, onibus_json, refusal
from tests.consumers.reward_models.annotation_logs import SPEC_ID, SPEC_NAME, annotation, publish_annotations
from tests.learner.recorded_run import recorded_run
from tests.learner.reporting.test_player import held
from tests.producers.nethack.playing import Memory, environment, play


@pytest.fixture(scope="module")
def recorded() -> tuple[EpisodeFinished, Memory]:
    memory = Memory()
    env = environment("keyroom-s5", memory, max_episode_steps=120, run="some-run")
    play(env)
    env.close()
    return memory.episodes[0], memory


def publish(settings: Settings, *episodes: EpisodeFinished) -> None:
    for one in episodes:
        send(settings, "episodes", episode_key(one), codec.encode(one))


def send(settings: Settings, topic: str, key: bytes, value: bytes) -> None:
    producer = clients.producer(settings)
    producer.send(f"{settings.topic_prefix}{topic}", key=key, value=value, partition=0)
    producer.flush()
    producer.close()


def test_frames_have_the_captions_that_the_workers_published(
    recorded: tuple[EpisodeFinished, Memory],
) -> None:
    record, memory = recorded
    shown = list(frames(record))
    assert len(shown) == record.steps + 1
    heard = [(caption.text, step) for caption, _, _, _, step, _ in memory.captions]
    assert [(frame.caption, frame.step) for frame in shown if frame.caption is not None] == heard
    assert heard
    assert bytes(shown[0].characters.tobytes()).count(b"@") >= 1
    assert sum(frame.extrinsic for frame in shown) == pytest.approx(record.extrinsic_return)


def test_an_episode_is_shown_and_written_with_its_rewards(
    settings: Settings, recorded: tuple[EpisodeFinished, Memory]
) -> None:
    record, memory = recorded
    publish(settings, record)
    text = memory.captions[0][0].text
    times = sum(caption.text == text for caption, *_ in memory.captions)
    publish_annotations(settings, [annotation(text, Verdict.HELPFUL)])
    cast = settings.runs_dir / "episode.cast"
    said = onibus(settings, "replay", "episode", "some-run/", "--spec", SPEC_NAME, "--beta", 0, "--to", cast)
    assert "the same as recorded" in said
    assert f"intrinsic {times:.3f}" in said
    header, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    assert header["version"] == 2
    assert len(events) == record.steps + 1
    assert events[1][0] == pytest.approx(0.1)
    assert any(text[:20] in event[2] for event in events)
    (row,) = onibus_json(settings, "replay", "rewards", "some-run", "--spec", SPEC_NAME, "--coefficient", 0.5)
    expected = sum(0.5 / n**3 for n in range(1, times + 1))
    assert row["intrinsic_return"] == pytest.approx(expected)
    assert row["rewarded_steps"] == times
    assert "no recorded episode" in refusal(settings, "replay", "episode", "other")


def test_an_episode_becomes_a_page_with_the_rewards_of_its_run(
    settings: Settings, recorded: tuple[EpisodeFinished, Memory]
) -> None:
    record, memory = recorded
    publish(settings, record)
    text = memory.captions[0][0].text
    publish_annotations(settings, [annotation(text, Verdict.HELPFUL)])
    label = Label(Verdict.HELPFUL, 0, 0, 1, 1, "test")
    send(settings, "labels", label_key(SPEC_ID, caption_id(text)), codec.encode(label))
    folder = settings.runs_dir / "some-run"
    save_options(make_options("keyroom-s5", run="some-run", specs=[f"{SPEC_NAME}=0.8"]), folder)
    keep_specs(folder, {SPEC_NAME: SPEC_ID})
    page = settings.runs_dir / "episode.html"
    assert onibus(settings, "replay", "episode", "some-run/", "--html", page).strip() == str(page)
    episode = held(page.read_text())
    number = [words for words, _ in episode["texts"]].index(text)
    assert episode["texts"][number] == [text, "helpful"]
    paid = [amount for _, about, _, amount in episode["said"] if about == number]
    assert paid == pytest.approx([round(0.8 / n**3, 6) for n in range(1, len(paid) + 1)], abs=2e-6)
    assert all(amount == 0 for _, about, _, amount in episode["said"] if about != number)


def test_a_report_links_to_its_best_median_and_worst_episode(
    settings: Settings, recorded: tuple[EpisodeFinished, Memory]
) -> None:
    from dataclasses import replace

    episodes = [replace(recorded[0], episode=n, extrinsic_return=float(n), run="a-run") for n in range(5)]
    broken = replace(recorded[0], episode=9, extrinsic_return=-9.0, run="a-run", checksum=1)
    publish(settings, *episodes, replace(recorded[0], extrinsic_return=99.0, run="a-run-2"))
    folder = recorded_run(settings.runs_dir / "a-run")
    page = Path(onibus(settings, "report", "a-run").strip())
    assert page.resolve().parent == folder
    links = re.findall(
        r'href="(episodes/\w+\.html)">the (\w+)</a> <span class="sub">return (\d)', page.read_text()
    )
    assert links == [
        ("episodes/best.html", "best", "4"),
        ("episodes/median.html", "median", "2"),
        ("episodes/worst.html", "worst", "0"),
    ]
    for path, *_ in links:
        assert len(held((folder / path).read_text())["frames"]) == recorded[0].steps + 1
    publish(settings, broken)
    again = Path(onibus(settings, "report", "a-run").strip()).read_text()
    assert "episodes/best.html" in again
    assert "episodes/worst.html" not in again
    assert not (folder / "episodes" / "worst.html").exists()


def test_another_episode_than_the_recorded_one_is_told(
    settings: Settings, recorded: tuple[EpisodeFinished, Memory]
) -> None:
    from dataclasses import replace

    publish(settings, replace(recorded[0], checksum=1))
    assert "is not the same when played again" in refusal(settings, "replay", "episode", "", "--speed", 0)


def test_an_episode_of_another_nle_says_so(
    settings: Settings, recorded: tuple[EpisodeFinished, Memory]
) -> None:
    from dataclasses import replace

    publish(settings, replace(recorded[0], nle_version="1.2.9"))
    done = invoke(settings, "replay", "episode")  # as fast as it can where there is no terminal
    (line,) = [line for line in done.stderr.splitlines() if "NLE" in line]
    assert "recorded under NLE 1.2.9, played again under NLE 1." in line
    assert "the same as recorded" in done.stdout
    assert done.stdout.splitlines()[-2].startswith("some-run/"), "on a line of its own"


def test_a_caption_fades_with_its_count() -> None:
    reward = CaptionReward(frozenset({"a"}), 0.4, 3)
    assert [reward("a", 1), reward("a", 2), reward("b", 1), reward(None, 0)] == [0.4, 0.05, 0, 0]
