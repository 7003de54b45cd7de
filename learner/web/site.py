"""The site of ``onibus web``: the flow of a system, its runs, its labels and its episodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from onibus.consumers.labels.live_index import BoardFeed
from onibus.consumers.labels.web import LabelPages, PageOptions
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.money import dollars
from onibus.infra.settings import Settings
from onibus.infra.web.access import FINISHED_PAGE, guarded, new_nonce, page
from onibus.learner.reporting.episode_players import PLAYERS_FOLDER
from onibus.learner.reporting.report import REPORT_FILE
from onibus.learner.web.answers import AnsweringBoard
from onibus.learner.web.earned import EarnedInRuns
from onibus.learner.web.episodes import ORDERS, EpisodeIndex, EpisodeOfCaption, Players
from onibus.learner.web.runs import RunRow, Runs
from onibus.learner.web.system import SystemWatch, flow_json

LINKS = (("/", "Flow"), ("/runs", "Runs"), ("/labels/", "Labels"), ("/episodes", "Episodes"))
PAGE_SIZE = 50
_LIVE_RUNS = 5


class WholeSite:
    """What the site shows, and what keeps it up to date between :meth:`start` and :meth:`stop`.

    Nothing is waited for: labels and episodes appear while the logs are being read.

    Args:
        labels: what visitors may do with labels.
        most_labels: that are held in memory; of more, the oldest are not shown.

    Raises:
        OnibusError: the cluster cannot be reached.
    """

    def __init__(self, settings: Settings, labels: PageOptions, most_labels: int) -> None:
        self._token = labels.token
        known = KnownSpecs.read(settings)
        self._board = AnsweringBoard({i: known[i] for i in known.all}, most_labels)
        self._feed = BoardFeed(settings, self._board)
        self._index, self._runs, earned = (
            EpisodeIndex(),
            Runs(settings.runs_dir),
            EarnedInRuns(settings.runs_dir),
        )
        self._players, self._finder = Players(settings), EpisodeOfCaption(settings, self._index)
        options = replace(labels, earned=earned, episode_of=self._finder, links=LINKS)
        self._labels = LabelPages(settings, self._board, known, options)
        self._watch = SystemWatch(settings, self._index, earned, self._know)
        self._templates = Environment(loader=PackageLoader("onibus.learner.web"), autoescape=True)
        self._templates.globals |= {"links": LINKS, "quote": lambda text: quote(text, safe="")}

    def start(self) -> None:
        """Begin to follow the cluster."""
        self._feed.start()
        self._watch.start()

    def stop(self) -> None:
        """End following it."""
        self._watch.stop()
        self._feed.stop()

    def app(self) -> Starlette:
        """The site."""

        @asynccontextmanager
        async def connections(_: Starlette) -> AsyncIterator[None]:
            try:
                yield
            finally:
                for part in (self._labels, self._players, self._finder):
                    await run_in_threadpool(part.close)

        routes: Sequence[BaseRoute] = [
            Route("/", self._flow),
            Route("/flow", self._flow_figures),
            Route("/runs", self._run_list),
            Route("/runs/{run}", self._run),
            Route("/runs/{run}/charts/{chart}.svg", self._chart),
            Route("/runs/{run}/report.html", self._report),
            Route("/runs/{run}/episodes/{which}.html", self._kept_player),
            Route("/episodes", self._episodes),
            Route("/episodes/{partition:int}/{offset:int}", self._player),
            Route("/labels", lambda _: RedirectResponse("/labels/")),
            Mount("/labels", routes=self._labels.routes()),
        ]
        return guarded(routes, self._token, connections)

    def _know(self, specs: KnownSpecs) -> None:
        self._labels.specs = specs

    def _page(self, template: str, status: int = 200, **content: Any) -> Response:
        nonce = new_nonce()
        html = self._templates.get_template(template).render(nonce=nonce, **content)
        return page(html, nonce, status)

    def _sorry(self, error: OnibusError) -> Response:
        return self._page("message.html.j2", 404, title="Not there", message=str(error))

    def _flow(self, request: Request) -> Response:
        return self._page("flow.html.j2", title="Flow")

    def _flow_figures(self, request: Request) -> Response:
        specs, lately, counts = self._labels.specs, self._board.lately(), self._board.labels_by_spec()
        ids = dict.fromkeys([*specs.all, *counts])
        shown, answers = flow_json(self._watch.view), sum(one.answers_a_minute for one in lately.values())
        shown["topics"] |= {
            "annotations": {"records": self._board.annotations, "per_second": answers / 60},
            "labels": {"records": sum(counts.values()), "per_second": None},
        }
        shown |= {
            "annotations": self._board.annotations,
            "labels": sum(counts.values()),
            "answers_a_minute": answers,
            "cost": dollars(self._board.usd()),
            "specs": [
                {
                    "spec": f"{specs.name(spec_id)}",
                    "spec_id": spec_id.hex(),
                    "labels": counts.get(spec_id, 0),
                    "answers_a_minute": lately[spec_id].answers_a_minute if spec_id in lately else 0.0,
                    "latency_p50": lately[spec_id].latency_p50 if spec_id in lately else None,
                }
                for spec_id in ids
            ],
            "runs": [_live(row) for row in self._runs.rows() if row.is_running][:_LIVE_RUNS],
        }
        return JSONResponse(shown)

    def _run_list(self, request: Request) -> Response:
        return self._page("runs.html.j2", title="Runs", runs=self._runs.rows())

    def _run(self, request: Request) -> Response:
        try:
            found = self._runs.page(request.path_params["run"])
        except OnibusError as error:
            return self._sorry(error)
        return self._page("run.html.j2", title=found.row.name, found=found)

    def _chart(self, request: Request) -> Response:
        try:
            svg = self._runs.chart(request.path_params["run"], request.path_params["chart"])
        except OnibusError as error:
            raise HTTPException(404, str(error)) from error
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(svg, media_type="image/svg+xml", headers=headers)

    def _report(self, request: Request) -> Response:
        return self._file(request, lambda folder: folder / REPORT_FILE)

    def _kept_player(self, request: Request) -> Response:
        which = request.path_params["which"]
        if which not in ("best", "median", "worst"):
            raise HTTPException(404, "there is no such episode")
        return self._file(request, lambda folder: folder / PLAYERS_FOLDER / f"{which}.html")

    def _file(self, request: Request, path_in: Callable[[Path], Path]) -> Response:
        """A page that was written before; it needs nothing of this site, and cannot reach it."""
        try:
            path = path_in(self._runs.folder(request.path_params["run"]))
        except OnibusError as error:
            return self._sorry(error)
        try:
            return _finished(path.read_text())
        except OSError as error:
            return self._sorry(OnibusError(f"{path.name} cannot be read: {reason_of(error)}"))

    def _episodes(self, request: Request) -> Response:
        query = request.query_params
        run, text, order = query.get("run", ""), query.get("text", ""), query.get("order", "newest")
        is_complete = self._index.is_complete  # before the rows: what is added meanwhile is asked for again
        try:
            start = max(0, int(query.get("start", 0)))
            rows = self._index.rows(run, text, order)
        except (ValueError, KeyError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        return self._page(
            "episodes.html.j2",
            title="Episodes",
            rows=rows[start : start + PAGE_SIZE],
            total=len(rows),
            start=start,
            size=PAGE_SIZE,
            run=run,
            text=text,
            order=order,
            orders=list(ORDERS),
            runs=self._index.runs(),
            is_complete=is_complete,
        )

    def _player(self, request: Request) -> Response:
        try:
            html = self._players.page((request.path_params["partition"], request.path_params["offset"]))
        except OnibusError as error:
            return self._sorry(error)
        return _finished(html)


def _finished(html: str) -> Response:
    """A page that needs nothing of this site, with links back to it."""
    links = " ".join(f'<a href="{address}">{name}</a>' for address, name in LINKS)
    back = f'<body>\n<nav style="display: flex; gap: 1.2rem; margin-bottom: .8rem">{links}</nav>'
    return HTMLResponse(html.replace("<body>", back, 1), headers={"Content-Security-Policy": FINISHED_PAGE})


def _live(row: RunRow) -> dict[str, Any]:
    names = ("env_steps", "steps_per_second", "return", "intrinsic_return", "captions_published")
    more = ("captions_dropped", "labels_known", "label_coverage", "model_version")
    return {"name": row.name, "task": row.task} | {n: row.last.get(n) for n in (*names, *more)}
