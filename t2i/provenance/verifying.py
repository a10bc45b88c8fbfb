"""What can be said of a file that somebody hands in: made here, edited since, or unknown."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import c2pa

from t2i.provenance.marks import MIME_TYPES, opened, read_marks

_TRUSTED, _ALTERED = "signingCredential.trusted", {"assertion.dataHash.mismatch", "assertion.hashedURI.mismatch"}


class Origin(StrEnum):
    MADE_HERE = "made here"
    """Signed with a certificate of ours, and not a byte is different."""
    EDITED = "edited"
    """It was made by this bot, or says so, but is not as it was."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    origin: Origin
    sentence: str
    signed_by: str | None = None
    """The organisation of the certificate, as far as the signature is good."""
    text: str | None = None
    """Prompt and parameters, as the file has them."""


def verify(data: bytes, roots: str) -> Finding:
    """Look at a PNG, WebP or JPEG; `roots` are certificates in PEM whose pictures count as ours.

    Raises UnreadablePicture when it is no such picture.
    """
    mime_type = MIME_TYPES[(opened(data).format or "").lower()]
    text = read_marks(data)
    report = _report(data, mime_type, roots)
    if report is None:
        if text is None:
            return Finding(Origin.UNKNOWN, "Nothing in the file says where it comes from.")
        return Finding(
            Origin.EDITED,
            "The file says that Imagine Bot made it, but its signed credentials are gone, so that it cannot be proved.",
            text=text,
        )
    signer = _signer(report)
    codes = _codes(report)
    if _TRUSTED not in codes:
        said = f"signed by {signer}, whom this bot does not know" if signer else "which do not hold"
        return Finding(Origin.UNKNOWN, f"The file has content credentials, {said}.", text=text)
    if report["validation_state"] == "Trusted":
        return Finding(Origin.MADE_HERE, f"Made here: signed by {signer} and unchanged since.", signer, text)
    if codes & _ALTERED:
        return Finding(Origin.EDITED, f"Signed by {signer}, but the picture was changed afterwards.", signer, text)
    return Finding(Origin.UNKNOWN, "The file's content credentials do not hold.", text=text)


def _report(data: bytes, mime_type: str, roots: str) -> dict[str, Any] | None:
    """What C2PA's own reader finds; None when there are no credentials, or nothing readable in their place."""
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "verify_trust": bool(roots)}}
    if roots:
        settings["trust"] = {"trust_anchors": roots}
    with c2pa.Context.from_dict(settings) as context:
        try:
            with c2pa.Reader(mime_type, io.BytesIO(data), context=context) as reader:
                found: dict[str, Any] = json.loads(reader.json())
        except c2pa.C2paError:
            return None
    return found


def _signer(report: dict[str, Any]) -> str | None:
    manifest = report["manifests"].get(report.get("active_manifest"), {})
    issuer = manifest.get("signature_info", {}).get("issuer")
    return None if issuer is None else str(issuer)


def _codes(report: dict[str, Any]) -> set[str]:
    results = report.get("validation_results", {}).get("activeManifest", {})
    return {str(status["code"]) for kind in ("success", "failure", "informational") for status in results.get(kind, ())}
