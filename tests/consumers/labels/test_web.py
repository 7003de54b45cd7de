"""The web page: what it shows, who may change what, and how fast it responds."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from kafka import KafkaProducer, TopicPartition
from starlette.testclient import TestClient

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.filter import LabelFilter
from onibus.consumers.labels.live_index import BoardFeed, LabelBoard
from onibus.consumers.labels.web import PageOptions, label_site
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from onibus.infra.web.access import is_loopback
from onibus.infra.web.serving import listening, page_address
from onibus.schemas import ids
from onibus.schemas.records import Origin, Verdict
from tests.consumers.replay.running import onibus, onibus_json, refusal, served_labels
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.waiting import wait_until

HERE = "http://127.0.0.1"


def board_of(*verdicts: Verdict) -> LabelBoard:
    """A board with these verdicts on the first captions."""
    board = LabelBoard()
    log = [annotation(TEXTS[n], verdict, at=n + 1) for n, verdict in enumerate(verdicts)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    return board


def visitor(board: LabelBoard, base_url: str = HERE, **options: object) -> TestClient:
    site = label_site(load_settings(), board, KnownSpecs({SPEC_ID: SPEC}), PageOptions(**options))  # type: ignore[arg-type]
    return TestClient(site, base_url=base_url)


@contextmanager
def edited(settings: Settings) -> Iterator[TestClient]:
    """A visitor who may correct what is on the bus."""
    board = LabelBoard()
    feed = BoardFeed(settings, board)
    feed.load()
    feed.start()
    try:
        site = label_site(settings, board, KnownSpecs.read(settings), PageOptions(person="ada"))
        with TestClient(site, base_url=HERE) as client:
            yield client
    finally:
        feed.stop()


def test_labels_are_filtered_newest_first() -> None:
    seen = visitor(board_of(*[Verdict.HELPFUL, Verdict.UNHELPFUL] * 3, Verdict.UNSURE))
    result = seen.get("/labels", params={"verdict": "unhelpful"}).json()
    assert result["total"] == 3
    assert result["verdicts"] == {"unhelpful": 3}
    assert [row["texts"][0] for row in result["labels"]] == [TEXTS[5], TEXTS[3], TEXTS[1]]
    assert seen.get("/labels", params={"text": TEXTS[2].upper(), "spec": SPEC_ID.hex()}).json()["total"] == 1
    assert seen.get("/labels").json()["verdicts"] == {"unhelpful": 3, "helpful": 3, "unsure": 1}
    assert seen.get("/labels", params={"spec": "no hex"}).status_code == 400
    assert seen.get("/labels", params={"origin": "nobody"}).status_code == 400


def test_labels_are_sorted_by_how_certain_the_model_was() -> None:
    board = LabelBoard()
    said = zip(TEXTS, (0.97, None, 0.52, 0.04, 0.4), strict=False)
    log = [replace(annotation(text, at=n + 1), probability=p) for n, (text, p) in enumerate(said)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    found = visitor(board).get("/labels", params={"order": "least-certain"}).json()["labels"]
    assert [row["probability"] for row in found] == [0.52, 0.4, 0.04, 0.97, None]
    assert visitor(board).get("/labels", params={"order": "no such"}).status_code == 400


def test_labels_are_sorted_by_disagreement_and_by_what_they_earned() -> None:
    board = LabelBoard()
    log = [annotation(text, Verdict.HELPFUL, at=n + 1) for n, text in enumerate(TEXTS[:4])]
    log += [annotation(TEXTS[1], Verdict.UNSURE, at=10), annotation(TEXTS[3], Verdict.HELPFUL, at=11)]
    log += [annotation(TEXTS[2], Verdict.UNHELPFUL, Origin.HUMAN, at=12)]
    log += [annotation(TEXTS[0], Verdict.HELPFUL, Origin.HUMAN, at=13)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    earned = {TEXTS[0]: (1, 5.0), TEXTS[1]: (9, 0.0), TEXTS[2]: (5, 7.5)}
    seen = visitor(board, earned=lambda label, _spec: earned.get(label.texts[0], (0, 0.0)))

    def first(order: str) -> list[int]:
        rows = seen.get("/labels", params={"order": order}).json()["labels"]
        return [TEXTS.index(row["texts"][0]) for row in rows]

    assert first("disagreement") == [2, 1, 0, 3], "a person's word against the annotators', then their own"
    assert first("reward")[:2] == [2, 0]
    assert first("frequency")[:3] == [1, 2, 0]
    assert visitor(board).get("/labels", params={"order": "reward"}).status_code == 400, "it is not known"


def test_a_board_with_a_limit_forgets_the_oldest() -> None:
    board = LabelBoard(100)
    log = [annotation(f"You see here {n} gold pieces.", Verdict.HELPFUL, at=n + 1) for n in range(1_000)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    page = visitor(board).get("/labels").json()
    assert page["total"] + page["forgotten"] == 1_000
    assert page["total"] <= 110
    assert page["labels"][0]["texts"] == [log[-1].texts[0]]
    assert not board.places(log[0].subject_id)
    assert board.places(log[-1].subject_id)


def test_captions_are_text_not_markup() -> None:
    """Captions come from the game, reasons from a model: scripts fill them in, as text."""
    page = visitor(board_of(Verdict.HELPFUL)).get("/")
    assert page.status_code == 200
    assert "innerHTML" not in page.text
    policy = page.headers["content-security-policy"]
    (nonce,) = re.findall(r"script-src 'nonce-([^']+)'", policy)
    assert f'<script nonce="{nonce}">' in page.text
    assert "unsafe-inline" not in policy


def test_read_only_unless_editing_is_allowed() -> None:
    seen = visitor(board_of(Verdict.HELPFUL))
    assert seen.post("/labels", json={}).status_code == 405
    assert "Read-only" in seen.get("/").text


def test_other_hosts_names_and_forms_are_refused() -> None:
    board = board_of(Verdict.HELPFUL)
    assert visitor(board, base_url="http://evil.example").get("/labels").status_code == 400
    form = visitor(board, person="ada").post("/labels", data={"verdict": "helpful"})
    assert form.status_code == 415


@pytest.mark.parametrize("host", ["127.0.0.1:80", "127.1.2.3", "[::1]:8765", "localhost:1", "LOCALHOST"])
def test_every_loopback_address_may_be_the_host(host: str) -> None:
    seen = visitor(board_of(Verdict.HELPFUL))
    assert seen.get("/labels", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1.evil.example", "evil.example:8765", "[::1", "", "192.0.2.1"])
def test_other_hosts_are_refused(host: str) -> None:
    seen = visitor(board_of(Verdict.HELPFUL))
    assert seen.get("/labels", headers={"Host": host}).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("host", ["::1", "[::1]", "127.0.0.2", "localhost"])
def test_the_printed_address_of_every_loopback_address_opens(host: str, settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    with served_labels(settings, "--host", host) as address:
        assert "token" not in address
        assert httpx.get(address, trust_env=False).status_code == 200
        assert httpx.get(f"{address}labels", trust_env=False).json()["total"] == 1


def test_the_printed_address_names_the_machine_where_it_listens_everywhere() -> None:
    assert page_address("0.0.0.0", 1) == page_address("::", 1) == f"http://{socket.gethostname()}:1/"
    assert page_address("2001:db8::1", 1) == "http://[2001:db8::1]:1/"
    assert page_address("192.0.2.7", 1) == "http://192.0.2.7:1/"


def test_on_other_addresses_every_visitor_needs_the_token() -> None:
    board = board_of(Verdict.HELPFUL)
    seen = visitor(board, base_url="http://192.0.2.7", token="secret-token", person="ada")
    for answer in (
        seen.get("/"),
        seen.get("/labels"),
        seen.post("/labels", json={}),
        seen.get("/?token=wrong"),
    ):
        assert answer.status_code == 403
    assert seen.get("/?token=secret-token").status_code == 200
    assert seen.get("/labels").json()["total"] == 1, "the cookie lets one in from then on"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.0.2.7", False)],
)
def test_which_addresses_are_this_machines_own(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_correction_is_on_the_bus_and_in_the_figures(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with edited(settings) as ada:
        assert ada.get("/agreement").json() == {"count": 0, "agreement": None, "kappa": None}
        (row,) = ada.get("/labels", params={"text": HELPFUL_TEXTS[0]}).json()["labels"]
        name = {"spec_id": row["spec_id"], "subject_id": row["subject_id"]}
        changed = ada.post("/labels", json=name | {"verdict": "unhelpful"}).json()
        assert (changed["verdict"], changed["annotator"], changed["origin"]) == ("unhelpful", "ada", "human")
        assert ada.get("/agreement").json()["agreement"] == 0
        result = ada.get(f"/history/{row['subject_id']}").json()
        assert [one["origin"] for one in result["history"]] == ["rules", "human"]
        assert ada.post("/labels", json=name | {"verdict": "first"}).status_code == 409
        assert ada.post("/labels", json=name | {"verdict": "great"}).status_code == 400
        sent = {"content-type": "application/json"}
        odd = [json.dumps(name | {"verdict": "helpful", "note": note}) for note in ({"a": [1]}, "\ud800")]
        for body in (*odd, "[" * 200_000):
            assert ada.post("/labels", content=body, headers=sent).status_code == 400
        assert ada.post("/labels", json=name | {"verdict": "withdrawn"}).json()["verdict"] == "withdrawn"
        assert ada.get("/history/00").status_code == 404
        publish_annotations(settings, [annotation(TEXTS[4])])
        wait_until(lambda: ada.get("/labels").json()["total"] == 4, 10, "a label that came meanwhile")
    assert len(onibus_json(settings, "labels", "list", "--spec", SPEC_NAME)) == 4


def test_a_correction_is_undone_on_the_bus(settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    with edited(settings) as ada:
        name = {"spec_id": SPEC_ID.hex(), "subject_id": ids.caption_id(TEXTS[0]).hex()}
        assert ada.post("/labels", json=name | {"verdict": "undo"}).status_code == 404
        ada.post("/labels", json=name | {"verdict": "unhelpful"})
        undone = ada.post("/labels", json=name | {"verdict": "undo"}).json()
        assert (undone["verdict"], undone["annotator"], undone["origin"]) == ("helpful", "test", "rules")
        assert ada.get("/agreement").json()["count"] == 0, "no one agreed"
    (label,) = onibus_json(settings, "labels", "list", "--spec", SPEC_NAME)
    assert (label["verdict"], label["origin"]) == ("helpful", "rules")


def test_a_history_is_read_at_its_positions_and_not_from_the_beginning_of_the_log(settings: Settings) -> None:
    texts = [text for text in TEXTS if ids.caption_partition(ids.caption_id(text), settings.partitions) == 0]
    before, subject = texts[:2]
    publish_annotations(settings, [annotation(before), annotation(subject), annotation(subject)])
    with edited(settings) as ada:
        beginning = TopicPartition(TopicNames(settings.topic_prefix).annotations, 0)
        with clients.admin(settings) as admin:
            admin.delete_records({beginning: 1})
        result = ada.get(f"/history/{ids.caption_id(subject).hex()}").json()
        assert [one["offset"] for one in result["history"]] == [1, 2]
        assert ada.get(f"/history/{ids.caption_id(before).hex()}").status_code == 404, "it is gone"


def test_corrections_one_after_another_share_a_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, really_open = list[str](), clients.transactional_producer

    def open_and_note(settings: Settings, transactional_id: str) -> KafkaProducer:
        opened.append(transactional_id)
        return really_open(settings, transactional_id)

    monkeypatch.setattr(clients, "transactional_producer", open_and_note)
    publish_annotations(settings, [annotation(text) for text in TEXTS[:3]])

    def correct(visitor: TestClient, text: str) -> str:
        name = {"spec_id": SPEC_ID.hex(), "subject_id": ids.caption_id(text).hex()}
        return str(visitor.post("/labels", json=name | {"verdict": "unsure"}).json()["verdict"])

    with edited(settings) as ada:
        assert [correct(ada, text) for text in TEXTS[:2]] == ["unsure", "unsure"]
        assert len(opened) == 1
        onibus(settings, "labels", "set", TEXTS[2], "unsure", "--spec", SPEC_NAME)  # fences the page
        assert correct(ada, TEXTS[2]) == "unsure"
        assert len(opened) == 3, "the command's, and the page's new one"


def test_the_scores_of_a_model_are_shown() -> None:
    seen = visitor(board_of(Verdict.HELPFUL), score=lambda texts: [len(text) / 100 for text in texts])
    (row,) = seen.get("/labels").json()["labels"]
    assert row["score"] == round(len(TEXTS[0]) / 100, 4)


def test_people_and_annotators_agree_as_far_as_they_judged_the_same() -> None:
    board = LabelBoard()
    log = [annotation(text) for text in TEXTS[:4]]
    log += [annotation(text, origin=Origin.HUMAN) for text in TEXTS[:2]]
    log += [annotation(TEXTS[2], Verdict.UNSURE, Origin.HUMAN)]
    board.apply(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log))
    result = board.agreement()
    assert (result.count, result.agreement) == (3, pytest.approx(2 / 3))


def test_a_filtered_page_of_very_many_labels_is_fast() -> None:
    """Bounded far above what it takes (see onibus bench replay): what is quadratic fails."""
    board = LabelBoard()
    board.apply(
        LoggedAnnotation(0, n, n, annotation(f"You see here {n} gold pieces.", Verdict.HELPFUL, at=n + 1))
        for n in range(20_000)
    )
    began = time.process_time()
    page = board.page(LabelFilter(text="99 gold"), 0, 50)
    assert page.total == 200
    assert time.process_time() - began < 2


def test_the_command_serves_until_it_is_stopped(settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    with served_labels(settings) as address:
        assert httpx.get(f"{address}labels").json()["total"] == 1
        assert "Read-only" in httpx.get(address).text


def test_every_address_of_ipv6_is_every_address() -> None:
    with listening("::", 0) as at:
        port = at.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [("8.8.8.8", "Cannot assign requested address"), ("no-such-host.invalid", "Name or service not known")],
)
def test_an_address_that_is_not_this_machine_s_is_one_plain_reason(host: str, reason: str) -> None:
    with pytest.raises(OnibusError, match=re.escape(f"cannot listen on {host}, port 8765 ({reason});")):
        listening(host, 8765)


def test_a_port_that_is_taken_is_one_line(settings: Settings) -> None:
    publish_annotations(settings, [annotation(TEXTS[0])])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refusal(settings, "labels", "serve", "--port", taken.getsockname()[1])
    assert "cannot listen on 127.0.0.1" in line


def test_a_response_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    with listening("127.0.0.1", 0) as at, socket.create_connection(at.getsockname()):
        connection, _ = at.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
