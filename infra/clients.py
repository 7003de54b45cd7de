"""Factories for kafka-python's clients: one place for security, durability and bounds.

Defaults: ``acks=all`` with idempotence, read_committed, lz4, manual commits. Extra keyword arguments
go to kafka-python and win. Clients that cannot reach the cluster fail with one clear line.
"""

from __future__ import annotations

from typing import Any

from infra.settings import Settings


def security(settings: Settings) -> dict[str, Any]:
    """kafka-python's connection arguments (bootstrap servers, TLS, SASL) for these settings."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": [s.strip() for s in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_check_hostname"] = settings.ssl_check_hostname
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if (path := getattr(settings, name)) is not None:
                arguments[name] = str(path)
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.password()
    return arguments


# filled in by the local broker slice: see contract
