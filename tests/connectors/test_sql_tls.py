"""Customers' databases behind TLS, with authorities and certificates of the test's own."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from marshmallow import ValidationError
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from jobplatform.connectors import Opening, create_connection
from jobplatform.connectors.sql import Sql, SqlConfig
from jobplatform.errors import InvalidConnectionError, SourceError
from tests.connectors.forwarding import forwarded

DAY = datetime.timedelta(days=1)


class Authority(NamedTuple):
    """Who issues certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def new_authority(name: str = "The customer's own authority") -> Authority:
    key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
    made = _certificate(subject, subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return Authority(key, made.add_extension(usage, critical=True).sign(key, hashes.SHA256()))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - 2 * DAY).not_valid_after(now + days * DAY)


def server_context(
    folder: Path, authority: Authority, *, names: tuple[str, ...] = ("localhost",), days: int = 1
) -> Any:
    """What a server with such a certificate speaks TLS with."""
    key = ec.generate_private_key(ec.SECP256R1())
    known = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    made = _certificate(_named(names[0]), authority.certificate.subject, key, days).add_extension(known, critical=False)
    certificate = made.sign(authority.key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture
def read(direct_url: str) -> Callable[..., list[str]]:
    """The ids that a connection reads from a server that speaks TLS like this, or not at all."""

    def read(tls: ssl.SSLContext | None, *, host: str = "localhost", **options: Any) -> list[str]:
        url = make_url(direct_url)
        folder = str(url.query["host"])
        with forwarded(next(Path(folder).glob(".s.PGSQL.[0-9]*[0-9]")), tls) as port:
            streams = {"numbers": {"query": "select n as id from generate_series(1, 3) n"}}
            base = {"host": host, "port": port, "database": url.database, "streams": streams}
            credentials = {"scheme": "password", "username": url.username or "postgres", "password": "unused"}
            opening = Opening.of(SqlConfig, {**base, **options}, credentials=credentials, allow_private=True)
            with Sql(opening) as connector:
                return [record.external_id for record in connector.fetch("numbers", None).records]

    return read


def test_a_server_is_read_over_tls_as_strictly_as_is_asked_for(
    read: Callable[..., list[str]], authority: Authority, tmp_path: Path
) -> None:
    tls = server_context(tmp_path, authority)

    assert read(tls, sslMode="require") == ["1", "2", "3"]
    assert read(tls, sslMode="verify-ca", caCertificate=authority.pem) == ["1", "2", "3"]
    assert read(tls, sslMode="verify-full", caCertificate=authority.pem) == ["1", "2", "3"]
    # Another name than the certificate has: enough for who asks for no name.
    assert read(tls, host="127.0.0.1", sslMode="verify-ca", caCertificate=authority.pem) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("offered", "options", "said"),
    [
        ({}, {"host": "127.0.0.1", "sslMode": "verify-full"}, "does not match"),
        ({"names": ("db.other.example",)}, {"sslMode": "verify-full"}, "does not match"),
        ({"days": -1}, {"sslMode": "verify-full"}, "certificate verify failed"),
        ({"days": -1}, {"sslMode": "verify-ca"}, "certificate verify failed"),
    ],
)
def test_a_certificate_that_is_not_the_server_s_or_too_old_is_refused(
    read: Callable[..., list[str]], authority: Authority, tmp_path: Path, offered: dict[str, Any],
    options: dict[str, Any], said: str,
) -> None:  # fmt: skip
    with pytest.raises(SourceError, match=rf"not trusted \(sslMode verify-.*{said}"):
        read(server_context(tmp_path, authority, **offered), caCertificate=authority.pem, **options)


def test_somebody_else_s_authority_is_none(
    read: Callable[..., list[str]], authority: Authority, tmp_path: Path
) -> None:
    tls = server_context(tmp_path, new_authority("Somebody else's authority"))

    for options in (
        {"sslMode": "verify-ca", "caCertificate": authority.pem},
        {"sslMode": "verify-full", "caCertificate": authority.pem},
        # Those of the system do not know it either.
        {"sslMode": "verify-full"},
    ):
        with pytest.raises(SourceError, match=r"not trusted.*certificate"):
            read(tls, **options)


def test_a_server_without_tls_is_not_asked_anything(read: Callable[..., list[str]], authority: Authority) -> None:
    for options in ({"sslMode": "require"}, {"sslMode": "verify-full", "caCertificate": authority.pem}):
        with pytest.raises(SourceError, match=r"not trusted.*does not support SSL"):
            read(None, **options)


def test_what_an_installation_wants_at_least_counts_when_a_connection_is_made_and_when_it_is_used(
    read: Callable[..., list[str]], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    session: Session, workspace_id: Any,
) -> None:  # fmt: skip
    monkeypatch.setenv("JOBPLATFORM_SQL_SSL_MODE", "verify-ca")
    tls = server_context(tmp_path, authority)

    assert read(tls, sslMode="verify-ca", caCertificate=authority.pem) == ["1", "2", "3"]
    for mode in ("require", "disable"):
        config = {"host": "db.example", "database": "d", "sslMode": mode, "streams": {"x": {"table": "t"}}}
        with pytest.raises(SourceError, match="verify-ca or stronger"):
            read(tls, sslMode=mode)
        with pytest.raises(InvalidConnectionError) as refused:
            create_connection(
                session, workspace_id, connector_type="sql", name="Shop", config=config, allow_private=True
            )
        assert [problem.path for problem in refused.value.problems] == ["/config/sslMode"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"sslMode": "verify-ca"}, "sslMode"),
        ({"sslMode": "require", "caCertificate": ""}, "caCertificate"),
        ({"sslMode": "verify-full", "caCertificate": "-----BEGIN CERTIFICATE-----"}, "caCertificate"),
    ],
)
def test_authorities_that_cannot_be_are_told_by_their_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        SqlConfig().load({"host": "db.example", "database": "d", "streams": {"x": {"table": "t"}}, **changes})

    assert place in error.value.messages


def test_an_authority_goes_with_a_mode_that_asks_for_one(authority: Authority) -> None:
    config = {"host": "db.example", "database": "d", "streams": {"x": {"table": "t"}}, "caCertificate": authority.pem}

    with pytest.raises(ValidationError, match="verify-ca or verify-full"):
        SqlConfig().load(config)
