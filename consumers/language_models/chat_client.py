"""One chat completion over HTTP, with as little processor time as can be, and its failures in five kinds.

A caption costs one small request, and the thread that asks shares a core with the one that reads and writes
Kafka. So it is aiohttp that sends (0.3 ms a request; OpenAI's own library takes 1.9 ms), and what does not
change from request to request, the proxy above all, is found out once.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from onibus.consumers.language_models.api_keys import FLAGS, Given
from onibus.consumers.language_models.errors_without_status import connection_trouble, failed_status
from onibus.consumers.language_models.failure_kinds import (
    MayPassError,
    NoCompletionError,
    failure_of,
    readable,
)
from onibus.infra.errors import OnibusError

CONNECT_SECONDS = 5.0
_KEEP_ALIVE_SECONDS = 4.0
"""How long an idle connection is kept: servers on uvicorn, vLLM's among them, cut theirs after five, and a
request that is just being sent then is lost."""


class ChatClient:
    """Asks one server; used on one asyncio loop. How many requests there are at a time is the caller's.

    Goes through the proxy that ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say. Trusts
    the certificates that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name, or the system's.

    Args:
        base_url: of the server, usually ending in ``/v1``.
        key: sent as bearer token.
        request_seconds: how long one request may take.
        given: where the user gave all this.

    Raises:
        OnibusError: no such address, key or proxy is possible.
    """

    def __init__(self, base_url: str, key: str, request_seconds: float, given: Given = FLAGS) -> None:
        address = _address(base_url, given)
        base = str(address).rstrip("/")
        self._url, self._plain_url = URL(f"{base}/chat/completions"), URL(f"{base}/completions")
        bearer = f"Bearer {_header_value(key, given)}"
        self._headers = {"Authorization": bearer, "Content-Type": "application/json"}
        self._proxy, proxy_headers = _proxy_for(address)
        # Under TLS the proxy sees its own headers alone, else it finds them among the request's.
        self._proxy_headers = proxy_headers if address.scheme == "https" else {}
        if address.scheme == "http":
            self._headers |= proxy_headers
        self._seconds = request_seconds
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """The completion, as the JSON that came; of a plain prompt if ``body`` has no messages.

        Raises:
            ChatError: none came; see its kinds.
        """
        data = json.dumps(body).encode()
        session = self._session or self._connect()
        try:
            # The headers with each request: aiohttp sends a session's to the proxy, too, the key with them.
            async with session.post(
                self._url if "messages" in body else self._plain_url,
                data=data,
                headers=self._headers,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers or None,
            ) as response:
                text, status = await response.read(), response.status
        except TimeoutError as error:
            raise MayPassError(self._too_late(error), "time-out") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise MayPassError(connection_trouble(error, self._url, self._proxy), "no connection") from error
        retry_after = response.headers.get("Retry-After", "0")
        if not 200 <= status < 300:
            raise failure_of(status, text, retry_after)
        try:
            completion = json.loads(text)
        except ValueError as error:
            raise NoCompletionError(f"the answer is no JSON: {readable(text)}") from error
        if (failed := failed_status(completion)) is not None:
            raise failure_of(failed, text, retry_after)
        return completion

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _connect(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEP_ALIVE_SECONDS,
                ssl=ssl.create_default_context() if self._url.scheme == "https" else True,
            ),
            timeout=aiohttp.ClientTimeout(total=self._seconds, connect=CONNECT_SECONDS),
            # Not trust_env: it would look for a proxy at each request, and put .netrc's password for our key.
            trust_env=False,
        )
        return self._session

    def _too_late(self, error: TimeoutError) -> str:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection to {self._url.host}:{self._url.port} within {CONNECT_SECONDS:g} s"
        return f"no answer within {self._seconds:g} s"


def _address(base_url: str, given: Given) -> URL:
    try:
        address = URL(base_url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError("no address of a server")
    except ValueError as error:
        raise OnibusError(
            f"{given.base_url} {base_url}{given.of}: {error}; give http(s)://host:port/v1"
        ) from error
    if address.user or address.password:
        raise OnibusError(
            f"{given.base_url} {address.with_user(None)}{given.of} holds a password; give a key instead, by "
            f"{given.key}"
        )
    return address


def _header_value(key: str, given: Given) -> str:
    """A key as it may stand in a header; a file's or a secret's last line break is not of it."""
    value = key.strip()
    if not value.isascii() or not value.isprintable():
        raise OnibusError(f"the API key holds characters that no key has; look at {given.key}{given.of}")
    return value


def _proxy_for(address: URL) -> tuple[URL | None, dict[str, str]]:
    """The environment's proxy for an address, if there is one, and the headers that it wants to see."""
    proxies = getproxies()
    given = proxies.get(address.scheme) or proxies.get("all")
    if not given or proxy_bypass(f"{address.host}:{address.port}"):
        return None, {}
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
        if proxy.scheme not in ("http", "https") or not proxy.host:
            raise ValueError("onibus goes through proxies at http(s)://host:port only")
    except ValueError as error:
        raise OnibusError(
            f"the proxy for {address}: {error}; correct {address.scheme.upper()}_PROXY"
        ) from error
    if proxy.user is None:
        return proxy, {}
    password = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return proxy.with_user(None), {"Proxy-Authorization": password}
