"""The site of ``onibus web``: what is on its pages, what they cannot reach, and what visitors cannot do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from onibus.consumers.dead_letters import REDRIVE
from onibus.consumers.labels.web import PageOptions
from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.files import write_whole
from onibus.infra.kafka import lasting_failure
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from onibus.learner.web.site import LINKS, WholeSite
from onibus.schemas import codec, ids
from onibus.schemas.records import DeadLetter
from tests.consumers.replay.running import onibus
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_NAME, TEXTS
from tests.learner.web.system import RUN, Judged, make_system, recorded, send
from tests.ports import free_port
from tests.shared_brokers import FAST_BROKER
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

HERE = "http://127.0.0.1"


@pytest.fixture
def judged(settings: Settings) -> Judged:
    return make_system(settings)


@pytest.fixture
def visitor(settings: Settings, judged: Judged) -> Iterator[TestClient]:
    site = WholeSite(settings, PageOptions(), 10_000)
    site.start()
    try:
        with TestClient(site.app(), base_url=HERE) as client:
            wait_until(lambda: client.get("/labels/labels").json()["total"] == 2, 30, "the labels")
            wait_until(lambda: RUN in client.get("/episodes").text, 30, "the episode")
            yield client
    finally:
        site.stop()


def flow(visitor: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = visitor.get("/flow").json()
    return found


def test_the_flow_has_topics_labels_models_and_runs_that_learn(
    settings: Settings, visitor: TestClient
) -> None:
    found = wait_until(lambda: (f := flow(visitor))["problem"] is None and f["models"] and f, 30, "a look")
    assert found["topics"]["captions"]["records"] == 1
    assert found["topics"]["episodes"]["records"] == 1
    assert [(m["model"], m["version"]) for m in found["models"]] == [(MODEL, 7)]
    assert [(s["spec"], s["labels"]) for s in found["specs"]] == [(SPEC_NAME, 2)]
    assert found["labels"] == 2
    assert found["answers_a_minute"] == 2
    assert found["groups"] == []
    history = settings.runs_dir / RUN / "history.jsonl"
    row = {
        "seconds": 60.0,
        "env_steps": 5e4,
        "steps_per_second": 1_234.0,
        "captions_dropped": 3.0,
        "return": 0.5,
    }
    write_whole(history, json.dumps(row) + "\n")
    (run,) = flow(visitor)["runs"]
    assert (run["name"], run["steps_per_second"], run["captions_dropped"]) == (RUN, 1_234, 3)
    assert "return" in run


def test_the_flow_counts_records_and_not_offsets(settings: Settings, visitor: TestClient) -> None:
    for number in range(3):
        onibus(settings, "labels", "set", TEXTS[0], ("helpful", "unsure")[number % 2], "--spec", SPEC_NAME)
    topic = TopicNames(settings.topic_prefix).dead_letters
    letter = DeadLetter("captions", 0, 7, "annotator", "unreadable", 3, None, None, None, 1)
    offsets = [send(settings, "dead-letters", b"", codec.encode(letter)) for _ in range(2)]
    mark = replace(letter, source_topic=topic, source_offset=offsets[0], component=REDRIVE)
    send(settings, "dead-letters", b"", codec.encode(mark))
    found = wait_until(
        lambda: (f := flow(visitor))["annotations"] == 5 and f["dead_letters"] == 1 and f, 60, "all of it"
    )
    assert found["topics"]["annotations"]["records"] == 5, "and not the marks of their transactions"
    assert found["topics"]["labels"]["records"] == found["labels"] == 2
    assert set(found["topics"]) == {"captions", "episodes", "labels", "annotations"}


def test_runs_are_listed_and_have_pages_with_the_reports_charts(
    settings: Settings, visitor: TestClient
) -> None:
    listed = visitor.get("/runs").text
    assert f'href="/runs/{RUN}"' in listed
    assert "19,000" in listed, "steps of its last row"
    page = visitor.get(f"/runs/{RUN}")
    assert "mean return" in page.text
    chart = visitor.get(f"/runs/{RUN}/charts/extrinsic-return.svg")
    assert chart.headers["content-type"] == "image/svg+xml"
    assert chart.text.startswith("<svg")
    assert f"/runs/{RUN}/charts/extrinsic-return.svg" in page.text
    assert "gold" not in page.text, "which never changes"
    assert visitor.get(f"/runs/{RUN}/charts/no-such.svg").status_code == 404
    assert visitor.get(f"/runs/{RUN}/report.html").status_code == 404, "none was written"
    (settings.runs_dir / RUN / "report.html").write_text("<p>the report</p>")
    report = visitor.get(f"/runs/{RUN}/report.html")
    assert "the report" in report.text
    assert report.headers["content-security-policy"].startswith("sandbox"), "it cannot reach the site"


def test_finished_pages_have_links_back_to_the_site(settings: Settings, visitor: TestClient) -> None:
    folder = settings.runs_dir / RUN
    (folder / "episodes").mkdir()
    for file in ("report.html", "episodes/best.html"):
        (folder / file).write_text("<html>\n<body>\n<p>whole</p></body></html>")
    for path in (f"/runs/{RUN}/report.html", f"/runs/{RUN}/episodes/best.html", "/episodes/0/0"):
        links = re.findall(r'<a href="([^"]+)">(\w+)</a>', visitor.get(path).text)
        assert tuple(links) == LINKS, path


@pytest.mark.parametrize(
    "row", [b'{"env_steps": 5}', b'{"seconds": 1, "return": "abc"}', b'{"return": Infinity}', b"[" * 100_000]
)
def test_a_broken_history_breaks_no_page(settings: Settings, visitor: TestClient, row: bytes) -> None:
    with (settings.runs_dir / RUN / "history.jsonl").open("ab") as history:
        history.write(row + b"\n")
    for path in ("/flow", "/runs", f"/runs/{RUN}"):
        assert visitor.get(path).status_code == 200


def test_an_episode_that_never_was_is_told_at_once(visitor: TestClient) -> None:
    for place in ("99/0", "0/99999999", "0/99999999999999999999999999"):
        began = time.monotonic()
        assert visitor.get(f"/episodes/{place}").status_code == 404, place
        assert time.monotonic() - began < 5, "it does not wait for a record that will not come"


def test_no_other_file_is_a_run(visitor: TestClient, settings: Settings) -> None:
    Path(settings.runs_dir.parent / "options.json").write_text("{}")
    for name in ("nothing", "%2e%2e", "..%2f..", "a%00b", "x" * 300, "%ff"):
        for path in ("", "/report.html", "/charts/speed.svg", "/episodes/best.html"):
            assert visitor.get(f"/runs/{name}{path}").status_code == 404, name


def test_the_list_of_episodes_says_that_it_is_still_being_read(settings: Settings, judged: Judged) -> None:
    site = WholeSite(settings, PageOptions(), 10_000)
    with TestClient(site.app(), base_url=HERE) as client:
        early = client.get("/episodes").text
        assert "still being read" in early
        assert "No recorded episode" not in early
        site.start()
        try:
            wait_until(lambda: "still being read" not in client.get("/episodes").text, 30, "the end")
            assert RUN in client.get("/episodes").text
        finally:
            site.stop()


def test_episodes_are_filtered_and_play(visitor: TestClient) -> None:
    record = recorded()
    key = f"{RUN}/{record.worker}/{record.environment}/{record.episode}"
    assert key in visitor.get("/episodes", params={"text": "KEYROOM", "order": "best"}).text
    assert key not in visitor.get("/episodes", params={"text": "no such task"}).text
    assert visitor.get("/episodes", params={"order": "no such"}).status_code == 400
    player = visitor.get("/episodes/0/0")
    assert f"<h1>{key}</h1>" in player.text
    assert player.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert visitor.get("/episodes/0/99").status_code == 404


def test_a_caption_has_an_episode_in_which_it_came_up(visitor: TestClient, judged: Judged) -> None:
    found = visitor.get(f"/labels/episode/{ids.caption_id(judged.text).hex()}").json()
    assert found == {"address": f"/episodes/0/0#{judged.step}"}
    other = visitor.get(f"/labels/episode/{ids.caption_id(judged.elsewhere).hex()}")
    assert other.status_code == 409
    assert "no answer names" in other.json()["error"]


def test_labels_are_sorted_by_what_their_captions_earned(visitor: TestClient, judged: Judged) -> None:
    def first() -> dict[str, Any]:
        row: dict[str, Any] = visitor.get("/labels/labels", params={"order": "reward"}).json()["labels"][0]
        return row

    row = wait_until(lambda: (found := first())["steps"] and found, 60, "totals of the runs")
    assert (row["texts"], row["steps"], row["reward"]) == ([judged.text], 12, 3.5)


def test_visitors_can_change_nothing_unless_that_is_allowed(visitor: TestClient) -> None:
    for path in ("/", "/flow", "/runs", "/labels/", "/labels/labels", "/episodes"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert visitor.request(method, path).status_code in (404, 405)
    assert "--allow-corrections" in visitor.get("/labels/").text
    assert visitor.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_pages_load_nothing_from_elsewhere(visitor: TestClient) -> None:
    for path in ("/", "/runs", f"/runs/{RUN}", "/labels/", "/episodes"):
        page = visitor.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert "innerHTML" not in page.text, path
        assert "://" not in page.text, path


def test_pages_answer_at_once_however_long_a_history_is(settings: Settings, visitor: TestClient) -> None:
    """Bounded far above what it takes: what reads the whole file fails."""
    history = settings.runs_dir / RUN / "history.jsonl"
    row = {"time": 1e9, "return": 0.5, "filling": "x" * 2_000, "episodes_averaged": 100.0}
    with history.open("w") as file:
        for number in range(40_000):
            file.write(json.dumps(row | {"seconds": number, "env_steps": number * 1e3}) + "\n")
    began = time.process_time()
    assert "39,999,000" in visitor.get("/runs").text
    assert "39,999,000" in visitor.get(f"/runs/{RUN}").text
    assert time.process_time() - began < 1.0


def test_while_the_cluster_is_away_pages_say_so_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting_failure, "QUIET_SECONDS", 3.0)
    port, folder = free_port(), tmp_path / "broker"

    def begin() -> Settings:
        running = start_broker(BrokerOptions(folder, port=port, stays=False, properties=FAST_BROKER))
        return load_settings(**running.client_settings(), runs_dir=tmp_path / "runs", partitions=2)

    settings = begin()
    create_topics(settings)
    (tmp_path / "runs").mkdir()
    make_system(settings)
    site = WholeSite(settings, PageOptions(), 10_000)
    site.start()
    try:
        with TestClient(site.app(), base_url=HERE) as client:
            wait_until(lambda: client.get("/labels/labels").json()["total"] == 2, 60, "the labels")
            wait_until(lambda: flow(client)["models"], 60, "a look")
            stop_broker(folder)
            problem = wait_until(lambda: flow(client)["problem"], 120, "the problem")
            assert "start one with: onibus broker start" in problem
            assert flow(client)["models"], "what was seen last"
            assert client.get("/labels/labels").json()["total"] == 2
            assert client.get(f"/runs/{RUN}").status_code == 200
            begin()
            wait_until(lambda: not flow(client)["problem"], 120, "another look")
    finally:
        site.stop()
        stop_broker(folder)
