"""A small site where people browse labels, and correct them with a single key."""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from onibus.consumers.labels.annotation_lookup import AnnotationLookup
from onibus.consumers.labels.corrections import VERDICTS_OF, Subject, set_by_hand, withdraw
from onibus.consumers.labels.filter import LabelFilter
from onibus.consumers.labels.fold import FoldedLabel, iso, label_json
from onibus.consumers.labels.history import history_json
from onibus.consumers.labels.live_index import LabelBoard
from onibus.consumers.labels.writer import LabelWriter
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.specs.verdict_in_force import WITHDRAWN, verdict_name, verdict_names
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.schemas.records import Kind, Origin, Verdict

PAGE_SIZE = 50
COOKIE = "onibus-token"
_SHOWN_SOON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How the site is served.

    Attributes:
        person: who makes the corrections; None: they are not allowed.
        token: required from every visitor; None: no token is required, on a loopback address.
        score: p(helpful) of captions, float (n,) of n texts, to be shown; None: no scores.
    """

    host: str = "127.0.0.1"
    person: str | None = None
    token: str | None = None
    score: Callable[[list[str]], list[float]] | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to this address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def label_site(settings: Settings, board: LabelBoard, specs: KnownSpecs, options: PageOptions) -> Starlette:
    """The site over a board; if corrections are not allowed, no route accepts one.

    On a loopback address requests must name one as their host, so that no other site's page can reach it by
    its own name (DNS rebinding). Elsewhere every request must present the token.
    """
    site = _Site(settings, board, specs, options)
    routes = [
        Route("/", site.page),
        Route("/labels", site.labels),
        Route("/agreement", site.agreement),
        Route("/history/{subject_id}", site.history),
    ]
    if options.person is not None:
        routes.append(Route("/labels", site.correct, methods=["POST"]))
    check = _loopback_check if options.token is None else _token_check(options.token)
    guard = Middleware(BaseHTTPMiddleware, dispatch=check)
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={OnibusError: _explained},
        lifespan=site.connections,
    )


class _Site:
    def __init__(
        self, settings: Settings, board: LabelBoard, specs: KnownSpecs, options: PageOptions
    ) -> None:
        self._board, self._specs, self._options = board, specs, options
        self._lookup, self._writer = AnnotationLookup(settings), LabelWriter(settings)
        self._writing = threading.Lock()
        self._template = Environment(
            loader=PackageLoader("onibus.consumers.labels"), autoescape=True
        ).get_template("labels.html.j2")

    @asynccontextmanager
    async def connections(self, _: Starlette) -> AsyncIterator[None]:
        """Close the connections when the site ends."""
        try:
            yield
        finally:
            await run_in_threadpool(self._lookup.close)
            await run_in_threadpool(self._writer.close)

    def page(self, request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        specs = [
            (spec_id.hex(), f"{self._specs.name(spec_id)} {spec_id.hex()[:6]}") for spec_id in self._specs.all
        ]
        html = self._template.render(
            specs=specs,
            verdicts=verdict_names(),
            origins=[origin.value for origin in Origin],
            editable=self._options.person is not None,
            scored=self._options.score is not None,
            page_size=PAGE_SIZE,
            nonce=nonce,
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(
            html, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        )

    def labels(self, request: Request) -> Response:
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
            least_certain_first = {"newest": False, "least-certain": True}[query.get("order", "newest")]
        except (ValueError, KeyError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        page = self._board.page(wanted, start, PAGE_SIZE, least_certain_first=least_certain_first)
        return JSONResponse(
            {
                "total": page.total,
                "verdicts": page.verdicts,
                "start": start,
                "labels": self._rows(page.labels),
            }
        )

    def agreement(self, request: Request) -> Response:
        return JSONResponse(asdict(self._board.agreement()))

    def history(self, request: Request) -> Response:
        subject_id = _hex(request.path_params["subject_id"])
        logged = self._lookup.read(self._board.places(subject_id))
        if not any(one.annotation is not None for one in logged):
            raise HTTPException(404, "it was never judged")
        return JSONResponse(history_json(subject_id, logged, self._specs))

    async def correct(self, request: Request) -> Response:
        # Another site's form cannot send this content type without this site's consent (CORS).
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "send application/json")
        try:
            given = await request.json()
            spec_id, subject_id = _hex(given["spec_id"]), _hex(given["subject_id"])
            word = str(given["verdict"])
        except (ValueError, KeyError, TypeError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        return await run_in_threadpool(self._correct, spec_id, subject_id, word, str(given.get("note", "")))

    def _correct(self, spec_id: bytes, subject_id: bytes, word: str, note: str) -> Response:
        before, person = self._board.get(spec_id, subject_id), self._options.person
        assert person is not None
        if before is None:
            raise HTTPException(404, "there is no such label")
        now = time.time_ns() // 1000
        subject = Subject(subject_id, before.texts, before.partition, before.observed_at)
        if word == WITHDRAWN:
            (change,) = withdraw([before], person, note, now)
        elif word in [verdict.value for verdict in Verdict]:
            spec = self._specs[spec_id]
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
        spec = self._specs.get(label.spec_id)
        kind = (
            spec.kind if spec is not None else Kind.JUDGE_ONE if len(label.texts) == 1 else Kind.COMPARE_TWO
        )
        return label_json(label, self._specs.name(label.spec_id)) | {
            "verdict": verdict_name(label.verdict),
            "annotated_at": iso(label.annotated_at)[:19],
            "choices": [verdict.value for verdict in VERDICTS_OF[kind]],
        }


async def _loopback_check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host):
        return Response("open the address that onibus labels serve printed\n", 400)
    return await go_on(request)


def _token_check(token: str) -> Callable[..., Awaitable[Response]]:
    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.query_params.get("token")
        if given is not None and secrets.compare_digest(given, token):
            answer: Response = RedirectResponse(str(request.url.remove_query_params("token")), 303)
            # Not "strict": that is not sent after a click on a link in a mail. No GET changes anything.
            answer.set_cookie(COOKIE, token, httponly=True, samesite="lax")
            return answer
        if secrets.compare_digest(request.cookies.get(COOKIE, ""), token):
            return await go_on(request)
        return Response("open the address with the token that onibus labels serve printed\n", 403)

    return check


def _explained(request: Request, error: Exception) -> Response:
    """The error with what the user can do about it, as on the terminal."""
    return JSONResponse({"error": str(error)}, 409)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise HTTPException(400, "ids are hex digits") from error
