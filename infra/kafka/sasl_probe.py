"""Asks a broker directly why it refuses a login.

kafka-python (3.0.12) loses the response: a broker closes the connection right after it refused a login, and a
response that arrives together with the end of the stream is discarded; the client only ever reports "socket
disconnected". So the first requests of a connection are repeated here over a blocking socket, with
kafka-python's own messages and mechanisms.
"""

from __future__ import annotations

import socket
from typing import Any

from kafka.errors import (
    IllegalSaslStateError,
    NoError,
    UnsupportedSaslMechanismError,
    for_code,
)
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from onibus.infra.settings import Settings

_ANY_MECHANISM = "SCRAM-SHA-512"
_CHUNK = 4096


def why_login_fails(connection: socket.socket, server: str, settings: Settings) -> str | None:
    """Why the broker at the other end of ``connection`` (after TLS, if any) refuses us; None if it does not.

    With a protocol that has no login, this is that the broker requires one.

    Raises:
        OSError: the other end does not answer within the socket's time-out, or closes the connection.
        KafkaError: the other end does not answer as Kafka does.
    """
    protocol = KafkaProtocol(client_id="onibus")
    wants_login = settings.security_protocol.startswith("SASL")
    mechanism = settings.sasl_mechanism if wants_login else _ANY_MECHANISM
    answer = _ask(connection, protocol, SaslHandshakeRequest(mechanism=mechanism, version=1))
    error = for_code(answer.error_code)
    if not wants_login:
        return _login_is_required(server, settings) if error is not IllegalSaslStateError else None
    if error is UnsupportedSaslMechanismError:
        offered = ", ".join(answer.mechanisms) or "none"
        return (
            f"the broker at {server} does not offer the SASL mechanism {mechanism} (it offers: {offered}); "
            "change --sasl-mechanism"
        )
    if error is IllegalSaslStateError:
        without = settings.security_protocol.removeprefix("SASL_")
        return f"the broker at {server} does not use logins; set --security-protocol {without}"
    if error is not NoError:
        return f"the broker at {server} refuses the login: {error.__name__}; ask its operator"
    return _why_refused(connection, protocol, server, settings)


def _login_is_required(server: str, settings: Settings) -> str:
    return (
        f"the broker at {server} requires a login (SASL); set --security-protocol "
        f"SASL_{settings.security_protocol}, --sasl-mechanism, --sasl-username and a password"
    )


def _why_refused(
    connection: socket.socket, protocol: KafkaProtocol, server: str, settings: Settings
) -> str | None:
    mechanism = get_sasl_mechanism(settings.sasl_mechanism)(
        host=server,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=settings.password(),
    )
    while not mechanism.is_done():
        answer = _ask(connection, protocol, SaslAuthenticateRequest(mechanism.auth_bytes(), version=1))
        if for_code(answer.error_code) is not NoError:
            return (
                f"the broker at {server} refused user {settings.sasl_username!r}: unknown user or wrong "
                "password; check ONIBUS_SASL_USERNAME and ONIBUS_SASL_PASSWORD (or ONIBUS_SASL_PASSWORD_FILE)"
            )
        mechanism.receive(answer.auth_bytes)
    return None


def _ask(connection: socket.socket, protocol: KafkaProtocol, request: Any) -> Any:
    """The broker's answer to one request."""
    protocol.send_request(request)
    connection.sendall(protocol.send_bytes())
    while True:
        data = connection.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the other end closed the connection")
        for _, answer in protocol.receive_bytes(data):
            return answer
