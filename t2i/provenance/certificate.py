"""The operator's certificate: what pictures are signed with, and by whose signature they are known again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from t2i.api import T2IError

CHAIN, KEY, ROOTS = "signer.pem", "signer.key", "roots.pem"
"""Files of the folder: the certificate and its issuers, its private key, and every root whose pictures are ours."""
YEARS = 10


class CertificateError(T2IError):
    """There is no certificate, or it cannot be used or replaced."""


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: str
    """PEM, the signer's own certificate first."""
    key: str = field(repr=False)
    """PEM, PKCS#8, a secret."""
    roots: str
    """PEM, also those of certificates used before."""


def load(folder: Path) -> Certificate:
    """Raises CertificateError when a file is missing or is no certificate."""
    try:
        chain, key, roots = ((folder / name).read_text() for name in (CHAIN, KEY, ROOTS))
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        x509.load_pem_x509_certificates(roots.encode())
        private = serialization.load_pem_private_key(key.encode(), None)
    except OSError as error:
        raise CertificateError(
            f"There is no certificate in {folder}: {error.strerror}. Make one by `imagine-bot data certificate`."
        ) from None
    except (ValueError, TypeError, IndexError):
        raise CertificateError(f"The certificate in {folder} is damaged; make another and keep {ROOTS}.") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != leaf.public_key():
        raise CertificateError(f"{KEY} in {folder} is not the key of {CHAIN}.")
    return Certificate(chain, key, roots)


def create(folder: Path, organisation: str, *, replace: bool = False) -> Certificate:
    """Make a root that signs one certificate and is then forgotten, and write both down; earlier roots stay known.

    The profile is that of C2PA (specification 2.1, section 14.5): ES256, digitalSignature, a purpose of its own, and no
    authority to sign others. Raises CertificateError when there is one already, unless it is to be replaced.
    """
    if (folder / KEY).exists() and not replace:
        raise CertificateError(f"There is a certificate in {folder} already; give --replace to make another.")
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, name = (_name(organisation, role) for role in ("root", "pictures"))
    root = (
        _begin(root_name, root_name, root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _begin(name, root_name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    known = (folder / ROOTS).read_text() if (folder / ROOTS).exists() else ""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The roots first: whatever is signed from here on is known again.
    _write(folder / ROOTS, known + _pem([root]))
    _write(folder / KEY, secret.decode(), mode=0o600)
    _write(folder / CHAIN, _pem([leaf, root]))
    return load(folder)


def _name(organisation: str, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Imagine Bot {role}"),
        ]
    )


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Whole or not at all, and never readable for a moment by whom it is not for."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
