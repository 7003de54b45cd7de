"""Failures without an HTTP status of their own: errors inside an answer of 200, and failing connections."""

from __future__ import annotations

import errno
from typing import Any

import aiohttp
from yarl import URL

_SERVER_FAILED = 502
"""The status that an error without one of its own is taken for."""
_STATUS_OF: dict[str, int] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "BadRequestError": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "NotFoundError": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
}


def failed_status(body: Any) -> int | None:
    """The status that an answer of 200 should have had, as it reports an error; None if it reports none.

    Gateways send 200 before they know how the server behind them does, and then the error as the body, or in
    place of the message.
    """
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if choices and isinstance(choices, list) and isinstance(choices[0], dict):
        error = choices[0].get("error")
    else:
        error = body.get("error") or (body if body.get("object") == "error" else None)
    if not error:
        return None
    if not isinstance(error, dict):
        return _SERVER_FAILED
    for name in ("code", "status", "type"):
        value = error.get(name)
        if str(value).isdecimal() and 400 <= int(str(value)) < 600:
            return int(str(value))
        if str(value) in _STATUS_OF:
            return _STATUS_OF[str(value)]
    return _SERVER_FAILED


def connection_trouble(error: Exception, url: URL, proxy: URL | None) -> str:
    """In one line why a request got no answer: which host, and what to look at."""
    where = url.authority if url.explicit_port else f"{url.authority}:{url.port}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy {proxy} answers {error.status} {error.message}; check the proxy and its password"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        cause = _cause(error.os_error)
        return f"the proxy {proxy} cannot be reached ({cause}); correct HTTP(S)_PROXY or NO_PROXY"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return (
            f"no host is called {url.host} as far as this machine knows; check the name, or the network's DNS"
        )
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return f"the certificate of {where} is not trusted: {reason}; SSL_CERT_FILE names the ones to trust"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"{where} does not speak TLS as expected ({_cause(error.os_error)}); is it http, not https?"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error.os_error, where)
    if isinstance(error, aiohttp.ClientResponseError):
        what = error.message.split(":")[0]
        return f"{where} does not answer in HTTP ({what}); is it https, not http, or another port?"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError):
        return f"{where} cut the connection before its answer was whole"
    return f"no connection to {where}: {error or type(error).__name__}"


def _not_connected(error: OSError, where: str) -> str:
    if error.errno == errno.ECONNREFUSED:
        return f"nothing listens at {where}; is the server started, the port right?"
    return f"{where} cannot be reached ({_cause(error)}); check the network between here and there"


def _cause(error: OSError) -> str:
    """The system's word for it, without the library's."""
    return (error.strerror or str(error)).split("] ")[-1].split(" (_ssl.c")[0]
