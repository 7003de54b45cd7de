"""Certificates and passwords of a secure local broker: created once, kept in files of mode 0600."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onibus.infra.errors import OnibusError
from onibus.infra.files import write_whole

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_VALID_FOR = dt.timedelta(days=3650)
CLIENT_USER = "onibus"
BROKER_USER = "broker"
_BROKER_NAME = "onibus local broker"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files and users of one secure cluster. Passwords never appear in ``repr``."""

    folder: Path
    broker_user: str = BROKER_USER
    client_user: str = CLIENT_USER

    @property
    def ca(self) -> Path:
        """Certificate that clients must trust (PEM)."""
        return self.folder / "ca.pem"

    @property
    def key_and_certificate(self) -> Path:
        """The brokers' key (PKCS#8) and, after it, their certificate (PEM)."""
        return self.folder / "broker.pem"

    @property
    def client_password_file(self) -> Path:
        return self.folder / "client-password"

    @property
    def client_password(self) -> str:
        return self.client_password_file.read_text().strip()

    @property
    def super_users(self) -> tuple[str, ...]:
        """Users that may do everything: the first user, and the brokers, by login and by certificate."""
        return self.client_user, self.broker_user, f"CN={_BROKER_NAME}"

    @property
    def broker_password(self) -> str:
        return (self.folder / "broker-password").read_text().strip()


def credentials_in(folder: Path, host: str) -> Credentials:
    """The credentials kept in ``folder``, created if there are none. The certificate is for ``host``."""
    credentials = Credentials(folder)
    if not credentials.client_password_file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_certificates(credentials, host)
        write_private(folder / "broker-password", secrets.token_urlsafe(24))
        # Written last: its presence shows that everything else is complete.
        write_private(credentials.client_password_file, secrets.token_urlsafe(24))
    return credentials


def write_private(path: Path, text: str) -> None:
    """Write a file that no one but its owner can ever read."""
    write_whole(path, f"{text}\n", mode=0o600)


def _make_certificates(credentials: Credentials, host: str) -> None:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise OnibusError(
            "a secure broker needs the package cryptography; install it with: pip install 'onibus[broker]'"
        ) from error
    ca_key, broker_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate_authority(ca_key)
    certificate = _broker_certificate(broker_key, host, ca, ca_key)
    private = broker_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    write_private(credentials.key_and_certificate, (private + certificate.public_bytes(pem)).decode().strip())
    write_whole(credentials.ca, ca.public_bytes(pem))


def _certificate_authority(key: EllipticCurvePrivateKey) -> x509.Certificate:
    """Self-signed. Its key is discarded after signing one certificate, so no one can sign another."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _name("onibus local authority")
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _broker_certificate(
    key: EllipticCurvePrivateKey, host: str, ca: x509.Certificate, ca_key: EllipticCurvePrivateKey
) -> x509.Certificate:
    """For the brokers as servers (port for clients) and as clients of each other's controller port."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(_name(_BROKER_NAME), ca.subject, key)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _alternative_names(host: str) -> list[x509.GeneralName]:
    from cryptography import x509

    names: dict[str, x509.GeneralName] = {}
    for each in ("localhost", "127.0.0.1", host):
        try:
            names[each] = x509.IPAddress(ipaddress.ip_address(each))
        except ValueError:  # not an address, so a name
            names[each] = x509.DNSName(each)
    return list(names.values())


def _builder(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    from cryptography import x509

    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID_FOR)
    )


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
