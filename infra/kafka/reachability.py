"""Why a cluster cannot be reached, in one line: address, name, port, TLS, certificate or password."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.sasl_probe import why_login_fails
from onibus.infra.settings import Settings

_TIMEOUT_SECONDS = 2.0


class UnreachableError(OnibusError):
    """The cluster cannot be reached."""

    def __init__(self, message: str, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        """Whether waiting can help, as when no server listens yet; a wrong password stays wrong."""


def why_unreachable(settings: Settings, error: BaseException) -> UnreachableError:
    """What a user can do about ``error``, which a Kafka client raised while it connected.

    Kafka clients report most causes as a time-out, so each layer is tried again separately: name, port,
    TLS, login. The first server for which a layer fails gives the explanation.
    """
    for server in settings.bootstrap_servers.split(","):
        try:
            _try_server(server.strip(), settings)
        except UnreachableError as reason:
            return reason
    return UnreachableError(
        f"{settings.bootstrap_servers} accepts connections but does not answer as a Kafka broker ({error}); "
        "check --bootstrap-servers and --security-protocol",
        may_pass=True,
    )


def refuse_dead_servers(settings: Settings) -> None:
    """Refuse at once if no bootstrap server listens, where a client would wait for one that restarts.

    For commands that look at the cluster once; a person repeats them.

    Raises:
        UnreachableError: each server's machine refuses the connection.
    """
    refused = None
    for server in settings.bootstrap_servers.split(","):
        try:
            with _connection(server.strip(), *server_address(server.strip())):
                return
        except UnreachableError as error:
            if not isinstance(error.__cause__, ConnectionRefusedError):
                return  # a client says why, or waits
            refused = refused or error
    if refused is not None:
        raise refused


def why_not_advertised_well(addresses: Iterable[tuple[str, int]]) -> UnreachableError | None:
    """The error if none of the brokers' advertised names resolves here; None if one does.

    A client connects to a bootstrap server only once, then to the addresses that the brokers advertise.
    """
    reason = None
    for host, port in addresses:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            reason = reason or UnreachableError(
                f"the brokers advertise {host}:{port}, a name that does not resolve here ({error.strerror}); "
                f"correct advertised.listeners of the brokers, or make {host} resolve on this machine",
                may_pass=error.errno == socket.EAI_AGAIN,
            )
        else:
            return None
    return reason


def why_advertised_unreachable(
    settings: Settings, addresses: Iterable[tuple[str, int]]
) -> OnibusError | None:
    """The error for the first advertised address that cannot be connected to; None if there is none."""
    for host, port in addresses:
        try:
            with socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS):
                continue
        except OSError as error:
            return OnibusError(
                f"the cluster at {settings.bootstrap_servers} advertises a broker at {host}:{port}, which "
                f"cannot be connected to from here ({error.strerror or 'no answer in time'}); check that "
                "this broker is up, or correct its advertised.listeners"
            )
    return None


def server_address(server: str) -> tuple[str, int]:
    """Host and port of one bootstrap server, ``host:port`` or ``[IPv6]:port``.

    Raises:
        UnreachableError: it has another form.
    """
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UnreachableError(
            f"bootstrap server {server!r} is not host:port; correct --bootstrap-servers", may_pass=False
        )
    return host.strip("[]"), int(port)


def _try_server(server: str, settings: Settings) -> None:
    """Connect to one ``host:port`` layer by layer.

    Raises:
        UnreachableError: at the first layer that fails.
    """
    host, port = server_address(server)
    with _connection(server, host, port) as plain:
        if settings.security_protocol.endswith("SSL"):
            with _tls(plain, server, host, settings) as encrypted:
                _try_login(encrypted, server, settings)
        else:
            _try_login(plain, server, settings)


@contextmanager
def _connection(server: str, host: str, port: int) -> Iterator[socket.socket]:
    try:
        connection = socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS)
    except socket.gaierror as error:
        raise UnreachableError(
            f"host {host} of --bootstrap-servers does not resolve ({error.strerror}); correct the name",
            may_pass=error.errno == socket.EAI_AGAIN,
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"no Kafka broker at {server} ({error.strerror or 'no answer in time'}); "
            "start one with: onibus broker start, or correct --bootstrap-servers",
            may_pass=True,
        ) from error
    with connection:
        yield connection


@contextmanager
def _tls(connection: socket.socket, server: str, host: str, settings: Settings) -> Iterator[socket.socket]:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:
        raise UnreachableError(
            f"the TLS files cannot be used ({_reason(error)}); "
            "--ssl-cafile, --ssl-certfile and --ssl-keyfile must be PEM files",
            may_pass=False,
        ) from error
    try:
        encrypted = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(
            f"the certificate of {server} cannot be trusted ({error.verify_message}); "
            "set --ssl-cafile to the certificate of the authority that signed it",
            may_pass=False,
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"no TLS connection to {server} ({_reason(error)}); if the broker does not use TLS, "
            "set --security-protocol PLAINTEXT or SASL_PLAINTEXT",
            may_pass=True,  # a broker that is stopping or starting closes the connection, too
        ) from error
    with encrypted:
        yield encrypted


def _try_login(connection: socket.socket, server: str, settings: Settings) -> None:
    try:
        reason = why_login_fails(connection, server, settings)
    except (OSError, KafkaError) as error:
        if not settings.security_protocol.endswith("SSL") and _speaks_tls(server):
            raise UnreachableError(
                f"the broker at {server} requires TLS, the client's security protocol is "
                f"{settings.security_protocol}; set --security-protocol SASL_SSL (or SSL)",
                may_pass=False,
            ) from error
        return  # not a broker, or a busy one: the caller explains it
    if reason is not None:
        raise UnreachableError(reason, may_pass=False)


def _speaks_tls(server: str) -> bool:
    """Whether ``host:port`` completes a TLS handshake; its certificate does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(server_address(server), timeout=_TIMEOUT_SECONDS) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except OSError:
        return False


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or "no answer in time"
