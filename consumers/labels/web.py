"""A small site where people browse labels, and correct them with a single key."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.corrections import CorrectedSubject, set_by_hand, withdraw
from onibus.consumers.labels.filter import LabelFilter
from onibus.consumers.labels.fold import FoldedLabel, iso, label_json
from onibus.consumers.labels.history import history_json
from onibus.consumers.labels.live_index import LabelBoard, Rank, by_certainty, by_disagreement
from onibus.consumers.labels.undo import undo
from onibus.consumers.labels.writer import Change, LabelWriter
from onibus.consumers.specs.answer_format import WORDS
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.record_lookup import RecordLookup
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.infra.web.access import guarded, new_nonce, page
from onibus.schemas.records import Annotation, Kind, Origin, Verdict
from onibus.schemas.verdict_in_force import WITHDRAWN, verdict_name, verdict_names

PAGE_SIZE = 50
UNDO = "undo"
"""Given as a verdict, it takes the last correction back."""

_ORDERS = {
    "newest": "newest first",
    "least-certain": "least certain first",
    "disagreement": "most disagreement first",
    "reward": "most reward first",
    "frequency": "most frequent first",
}
_SHOWN_SOON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What visitors see and may do.

    Attributes:
        person: who makes the corrections; None: they are not allowed.
        token: required from every visitor; None: no token is required, on a loopback address.
        score: p(helpful) of captions, float (n,) of n texts, to be shown; None: no scores.
        earned: of a label and its spec's name: steps that its captions came up in, and the reward that they
            earned, in runs rewarded under that spec; None: not known.
        episode_of: address of an episode in which a subject came up; None: there are no episodes to show.
            Raises OnibusError where there is none.
        links: address and name of the site's other pages.
    """

    person: str | None = None
    token: str | None = None
    score: Callable[[list[str]], list[float]] | None = None
    earned: Callable[[FoldedLabel, str], tuple[int, float]] | None = None
    episode_of: Callable[[Sequence[Annotation]], str] | None = None
    links: Sequence[tuple[str, str]] = ()


def label_site(settings: Settings, board: LabelBoard, specs: KnownSpecs, options: PageOptions) -> Starlette:
    """A site of the labels of a board alone; if corrections are not allowed, no route accepts one."""
    pages = LabelPages(settings, board, specs, options)

    @asynccontextmanager
    async def connections(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(pages.close)

    return guarded(pages.routes(), options.token, connections)


class LabelPages:
    """The pages of labels, for a site of their own or below an address of another one.

    Attributes:
        specs: those that are known now.
    """

    def __init__(
        self, settings: Settings, board: LabelBoard, specs: KnownSpecs, options: PageOptions
    ) -> None:
        self._board, self.specs, self._options = board, specs, options
        self._codec, self._writer = codec_for(settings), LabelWriter(settings)
        self._records = RecordLookup(settings, TopicNames(settings.topic_prefix).annotations)
        self._writing = threading.Lock()
        self._template = Environment(
            loader=PackageLoader("onibus.consumers.labels"), autoescape=True
        ).get_template("labels.html.j2")
        self._ranks: dict[str, Rank | None] = {
            "newest": None,
            "least-certain": by_certainty,
            "disagreement": by_disagreement,
        }
        if options.earned is not None:
            self._ranks |= {
                "reward": lambda label: -self._earned(label)[1],
                "frequency": lambda label: -self._earned(label)[0],
            }

    def routes(self) -> list[BaseRoute]:
        """What it responds to; nothing that changes a label, unless that is allowed."""
        found: list[BaseRoute] = [
            Route("/", self._page),
            Route("/labels", self._labels),
            Route("/agreement", self._agreement),
            Route("/history/{subject_id}", self._history),
        ]
        if self._options.episode_of is not None:
            found.append(Route("/episode/{subject_id}", self._episode))
        if self._options.person is not None:
            found.append(Route("/labels", self._correct, methods=["POST"]))
        return found

    def close(self) -> None:
        """Close the connections."""
        self._records.close()
        self._writer.close()

    def _page(self, request: Request) -> Response:
        nonce = new_nonce()
        specs = [
            (spec_id.hex(), f"{self.specs.name(spec_id)} {spec_id.hex()[:6]}") for spec_id in self.specs.all
        ]
        html = self._template.render(
            specs=specs,
            verdicts=verdict_names(),
            origins=[origin.value for origin in Origin],
            orders=[(order, _ORDERS[order]) for order in self._ranks],
            editable=self._options.person is not None,
            scored=self._options.score is not None,
            earning=self._options.earned is not None,
            episodes=self._options.episode_of is not None,
            links=self._options.links,
            page_size=PAGE_SIZE,
            nonce=nonce,
        )
        return page(html, nonce)

    def _labels(self, request: Request) -> Response:
        query = request.query_params
        try:
            wanted = LabelFilter(
                spec_ids=frozenset([bytes.fromhex(query["spec"])]) if query.get("spec") else None,
                verdicts=frozenset([query["verdict"]]) if query.get("verdict") else frozenset(),
                text=query.get("text", ""),
                annotator=query.get("annotator") or None,
                origin=Origin(query["origin"]) if query.get("origin") else None,
            )
            start = max(0, int(query.get("start", 0)))
            rank = self._ranks[query.get("order", "newest")]
        except (ValueError, KeyError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        is_complete = self._board.is_complete  # before the page: what is read meanwhile is asked for again
        found = self._board.page(wanted, start, PAGE_SIZE, rank)
        return JSONResponse(
            {
                "total": found.total,
                "verdicts": found.verdicts,
                "start": start,
                "forgotten": self._board.forgotten,
                "is_complete": is_complete,
                "labels": self._rows(found.labels),
            }
        )

    def _episode(self, request: Request) -> Response:
        """To an episode in which the subject came up."""
        assert self._options.episode_of is not None
        logged = self._logged(_hex(request.path_params["subject_id"]))
        address = self._options.episode_of([one.annotation for one in logged if one.annotation is not None])
        return JSONResponse({"address": address})

    def _agreement(self, request: Request) -> Response:
        return JSONResponse(asdict(self._board.agreement()))

    def _history(self, request: Request) -> Response:
        subject_id = _hex(request.path_params["subject_id"])
        logged = self._logged(subject_id)
        if not any(one.annotation is not None for one in logged):
            raise HTTPException(404, "it was never judged")
        return JSONResponse(history_json(subject_id, logged, self.specs))

    def _logged(self, subject_id: bytes) -> list[LoggedAnnotation]:
        """What was answered about a subject; what no longer exists is left out."""
        records = self._records.read(self._board.places(subject_id))
        found = [(record, decoded_quietly(self._codec, Annotation, record.value)) for record in records]
        return [LoggedAnnotation(r.partition, r.offset, r.timestamp, annotation) for r, annotation in found]

    async def _correct(self, request: Request) -> Response:
        # Another site's form cannot send this content type without this site's consent (CORS).
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "send application/json")
        try:
            given = await request.json()
            spec_id, subject_id = _hex(given["spec_id"]), _hex(given["subject_id"])
            word, note = str(given["verdict"]), given.get("note", "")
            if not isinstance(note, str):
                raise TypeError("the note is not text")
            note.encode()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        return await run_in_threadpool(self._changed, spec_id, subject_id, word, note)

    def _changed(self, spec_id: bytes, subject_id: bytes, word: str, note: str) -> Response:
        before, person = self._board.get(spec_id, subject_id), self._options.person
        assert person is not None
        if before is None:
            raise HTTPException(404, "there is no such label")
        now = time.time_ns() // 1000
        subject = CorrectedSubject(subject_id, before.texts, before.partition, before.observed_at)
        change: Change | None
        if word == UNDO:
            logged = self._logged(subject_id)
            said = [one.annotation for one in logged if one.annotation is not None]
            change = undo(subject, [one for one in said if one.spec_id == spec_id], person, now)
            if change is None:
                raise HTTPException(404, "no person has changed this label")
        elif word == WITHDRAWN:
            (change,) = withdraw([before], person, note, now)
        elif word in [verdict.value for verdict in Verdict]:
            spec = self.specs[spec_id]
            change = set_by_hand(subject, spec_id, spec, Verdict(word), person, note, now)
        else:
            raise HTTPException(400, f"{word} is not a verdict")
        with self._writing:
            self._writer.write([change])
        return JSONResponse(self._rows([self._shown(spec_id, subject_id, now)])[0])

    def _shown(self, spec_id: bytes, subject_id: bytes, now: int) -> FoldedLabel:
        """The label, once the board has the change."""
        deadline = time.monotonic() + _SHOWN_SOON_SECONDS
        while True:
            label = self._board.get(spec_id, subject_id)
            assert label is not None
            if label.annotated_at >= now or time.monotonic() > deadline:
                return label
            time.sleep(0.02)

    def _rows(self, labels: list[FoldedLabel]) -> list[dict[str, Any]]:
        rows = [self._row(label) for label in labels]
        if self._options.score is not None:
            singles = [(row, label) for row, label in zip(rows, labels, strict=True) if len(label.texts) == 1]
            scores = self._options.score([label.texts[0] for _, label in singles])
            for (row, _), score in zip(singles, scores, strict=True):
                row["score"] = round(score, 4)
        return rows

    def _row(self, label: FoldedLabel) -> dict[str, Any]:
        spec = self.specs.get(label.spec_id)
        kind = (
            spec.kind if spec is not None else Kind.JUDGE_ONE if len(label.texts) == 1 else Kind.COMPARE_TWO
        )
        return label_json(label, self.specs.name(label.spec_id)) | {
            "verdict": verdict_name(label.verdict),
            "annotated_at": iso(label.annotated_at)[:19],
            "choices": [verdict.value for verdict in WORDS[kind]],
            "differing": label.differing,
            **self._earned_json(label),
        }

    def _earned_json(self, label: FoldedLabel) -> dict[str, float]:
        if self._options.earned is None:
            return {}
        steps, reward = self._earned(label)
        return {"steps": steps, "reward": round(reward, 2)}

    def _earned(self, label: FoldedLabel) -> tuple[int, float]:
        assert self._options.earned is not None
        return self._options.earned(label, self.specs.name(label.spec_id))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise HTTPException(400, "ids are hex digits") from error
