"""Who may visit a site: whatever a visitor sends instead of the token is refused, and is not an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from onibus.infra.web.access import COOKIE, guarded

TOKEN = "the-token"
ODD = ["schlüssel", "鍵", "\U0001f511", "a\u202eb", "%ed%a0%80", ""]


@asynccontextmanager
async def nothing(_: Starlette) -> AsyncIterator[None]:
    yield


@pytest.fixture
def visitor() -> TestClient:
    site = guarded([Route("/", lambda _: PlainTextResponse("inside"))], TOKEN, nothing)
    return TestClient(site, base_url="http://192.0.2.7")


@pytest.mark.parametrize("token", ODD)
def test_a_token_of_any_characters_is_refused(visitor: TestClient, token: str) -> None:
    assert visitor.get(f"/?token={quote(token, safe='%')}").status_code == 403


@pytest.mark.parametrize("cookie", [odd.encode() for odd in ODD] + [b"\xff\xfe", b'"', b"a;b=c;"])
def test_a_cookie_of_any_bytes_is_refused(visitor: TestClient, cookie: bytes) -> None:
    answer = visitor.get("/", headers={"Cookie": COOKIE.encode() + b"=" + cookie})  # type: ignore[dict-item]
    assert answer.status_code == 403


def test_the_token_lets_one_in_and_stays_out_of_the_address(visitor: TestClient) -> None:
    answer = visitor.get(f"/?token={TOKEN}&start=50", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "http://192.0.2.7/?start=50")
    assert visitor.get("/").text == "inside"
