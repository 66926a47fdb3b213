"""A certificate for content credentials, made here: for a studio's own readers, which are given its root.

Knows X.509 as C2PA asks for it (section "Digital signatures" of its specification); nothing of pictures.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CHAIN, KEY = "c2pa.pem", "c2pa.key"
"""Certificate of the signer and then its root; the signer's key."""
ROOT, ROOT_KEY = "root.pem", "root.key"
"""What readers are given, so that they trust the signer; and what renews the signer's certificate."""
EXTRA = "install the extra `c2pa` first: pip install 'ai-asset-generator[c2pa]'"
ROOT_DAYS = 3650
_CLOCKS = timedelta(minutes=10)  # how far clocks of readers may be behind


def make_certificate(folder: Path, organisation: str, days: int) -> None:
    """A root where the folder has none, and a signer's certificate below it for so many days. Never replaces
    a root; replaces the signer's. Raises ConfigError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise ConfigError(EXTRA) from error
    if not 1 <= len(organisation) <= 64 or not organisation.isprintable():
        raise ConfigError("an organisation has 1 to 64 characters")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / ROOT).exists():
            root = x509.load_pem_x509_certificate((folder / ROOT).read_bytes())
            loaded = serialization.load_pem_private_key((folder / ROOT_KEY).read_bytes(), None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ConfigError(f"{folder / ROOT_KEY} is not a key that this command made")
            root_key = loaded
        else:
            root_key = ec.generate_private_key(ec.SECP256R1())
            root = _root(root_key, organisation)
            _write(folder / ROOT_KEY, _pem(root_key))
            (folder / ROOT).write_bytes(root.public_bytes(serialization.Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(key, organisation, days, root, root_key)
        chain = [one.public_bytes(serialization.Encoding.PEM) for one in (leaf, root)]
        _write(folder / KEY, _pem(key))
        (folder / CHAIN).write_bytes(b"".join(chain))
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{folder} holds a root that cannot be read: {error}") from error


def _root(key: EllipticCurvePrivateKey, organisation: str) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _name(organisation, f"{organisation} content credentials root")
    usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    return (
        _dated(ROOT_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: EllipticCurvePrivateKey,
    organisation: str,
    days: int,
    root: x509.Certificate,
    root_key: EllipticCurvePrivateKey,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return (
        _dated(days)
        .subject_name(_name(organisation, f"{organisation} content credentials"))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(mail, critical=False)
        .add_extension(above, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _name(organisation: str, common: str) -> x509.Name:
    """With the organisation, which C2PA shows as who signed."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
        ]
    )


def _dated(days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    from cryptography import x509

    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, secret: bytes) -> None:
    """For its user alone, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
