"""Who may visit a site, and what its pages may load."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from onibus.infra.errors import OnibusError

COOKIE = "onibus-token"

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]

FINISHED_PAGE = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
"""Policy of a self-contained page that was written to a file: it cannot reach the site that serves it."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to this address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def guarded(routes: Sequence[BaseRoute], token: str | None, lifespan: Lifespan) -> Starlette:
    """A site that lets in those who may visit it.

    Without a token, on a loopback address, requests must name one as their host, so that no other site's page
    can reach it by its own name (DNS rebinding). Elsewhere every request must present the token.
    """
    check = _loopback_check if token is None else _token_check(token)
    return Starlette(
        routes=[*routes, Route("/favicon.ico", lambda _: Response(status_code=204))],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=check)],
        exception_handlers={OnibusError: _explained},
        lifespan=lifespan,
    )


def new_nonce() -> str:
    """One for a single answer."""
    return secrets.token_urlsafe(16)


def page(html: str, nonce: str, status: int = 200) -> Response:
    """A page that loads nothing but what this site has, and runs no script without the nonce."""
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(html, status, headers=headers)


async def _loopback_check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host):
        return Response("open the address that onibus printed\n", 400)
    return await go_on(request)


def _token_check(token: str) -> Callable[..., Awaitable[Response]]:
    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.query_params.get("token")
        if given is not None and _is_same(given, token):
            answer: Response = RedirectResponse(str(request.url.remove_query_params("token")), 303)
            # Not "strict": that is not sent after a click on a link in a mail. No GET changes anything.
            answer.set_cookie(COOKIE, token, httponly=True, samesite="lax")
            return answer
        if _is_same(request.cookies.get(COOKIE, ""), token):
            return await go_on(request)
        return Response("open the address with the token that onibus printed\n", 403)

    return check


def _is_same(given: str, token: str) -> bool:
    """In the same time whatever is given, which may be any text."""
    return secrets.compare_digest(given.encode(errors="backslashreplace"), token.encode())


def _explained(request: Request, error: Exception) -> Response:
    """The error with what the user can do about it, as on the terminal."""
    return JSONResponse({"error": str(error)}, 409)
