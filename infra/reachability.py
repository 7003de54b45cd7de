"""Why a cluster cannot be reached, in one line: address, name, port, TLS, certificate or password."""

from __future__ import annotations

import socket
import ssl

from kafka.errors import (
    AuthorizationError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from infra.errors import OnibusError
from infra.settings import Settings

_TIMEOUT_SECONDS = 3.0


def why_unreachable(settings: Settings, error: BaseException) -> OnibusError:
    """What a person can do about ``error``, which a Kafka client gave while it connected.

    Kafka clients report most of these as a time-out, so each layer is tried again by itself:
    name, port, TLS, login. The first server that has an explanation gives it.
    """
    if isinstance(error, SaslAuthenticationFailedError):
        return OnibusError(
            f"the broker at {settings.bootstrap_servers} refused user {settings.sasl_username!r}: unknown user or "
            "wrong password; check ONIBUS_SASL_USERNAME and ONIBUS_SASL_PASSWORD (or its file)"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return OnibusError(
            f"the broker at {settings.bootstrap_servers} does not offer {settings.sasl_mechanism}; "
            "change --sasl-mechanism"
        )
    if isinstance(error, AuthorizationError):
        return OnibusError(
            f"user {settings.sasl_username!r} may not do this: {error}; ask for the right (ACL)"
        )
    for server in settings.bootstrap_servers.split(","):
        if reason := _why_server_fails(server.strip(), settings):
            return OnibusError(reason)
    return OnibusError(
        f"{settings.bootstrap_servers} accepts connections but does not answer as Kafka with security protocol "
        f"{settings.security_protocol} ({error}); check --bootstrap-servers and --security-protocol"
    )


def _why_server_fails(server: str, settings: Settings) -> str | None:
    """What is wrong with one ``host:port``; None if it can be reached and speaks (or not) TLS as expected."""
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        return f"bootstrap server {server!r} is not host:port; correct --bootstrap-servers"
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_SECONDS)
    except socket.gaierror as error:
        return f"host {host} of --bootstrap-servers is not known ({error.strerror}); correct the name"
    except OSError as error:
        return (
            f"no Kafka broker at {server} ({error.strerror or 'no answer in time'}); "
            "start one with: onibus broker start, or correct --bootstrap-servers"
        )
    with connection:
        if settings.security_protocol.endswith("SSL"):
            return _why_tls_fails(connection, server, host, settings)
        if _speaks_tls(connection):
            return (
                f"the broker at {server} wants TLS, the client's security protocol is {settings.security_protocol}; "
                "set --security-protocol SASL_SSL (or SSL)"
            )
    return None


def _why_tls_fails(connection: socket.socket, server: str, host: str, settings: Settings) -> str | None:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except (OSError, ssl.SSLError) as error:
        return f"the TLS files cannot be used ({error}); check --ssl-cafile, --ssl-certfile and --ssl-keyfile"
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {server} cannot be trusted ({error.verify_message}); "
            "set --ssl-cafile to the certificate of the authority that signed it"
        )
    except (OSError, ssl.SSLError) as error:
        return (
            f"no TLS with {server} ({_reason(error)}); if the broker speaks no TLS, "
            "set --security-protocol PLAINTEXT or SASL_PLAINTEXT"
        )
    return None


def _speaks_tls(connection: socket.socket) -> bool:
    """Whether the other side answers a TLS greeting; whose certificate it shows does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.wrap_socket(connection).close()
    except (OSError, ssl.SSLError):
        return False
    return True


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or "no answer in time"
