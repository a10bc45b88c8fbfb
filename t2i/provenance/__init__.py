"""Where a picture comes from: marks in the file, credentials signed over it, and what both say afterwards."""

from t2i.provenance.certificate import Certificate, CertificateError, create, load
from t2i.provenance.marks import MIME_TYPES, Marks, UnreadablePicture, read_marks
from t2i.provenance.signing import Signer
from t2i.provenance.verifying import Finding, Origin, verify

__all__ = [
    "MIME_TYPES",
    "Certificate",
    "CertificateError",
    "Finding",
    "Marks",
    "Origin",
    "Signer",
    "UnreadablePicture",
    "create",
    "load",
    "read_marks",
    "verify",
]
