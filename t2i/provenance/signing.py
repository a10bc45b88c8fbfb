"""Content credentials: a manifest signed over a picture's bytes, as C2PA lays it down, by the C2PA's own library."""

from __future__ import annotations

import io
import json
from importlib.metadata import version

import c2pa

from t2i.provenance.certificate import Certificate
from t2i.provenance.marks import MIME_TYPES, SOURCE_TYPE, TOOL

# A thumbnail would be many times larger than the picture.
SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
GENERATOR = {"name": TOOL, "version": version("imagine-bot")}


class Signer:
    """May be used from several threads."""

    def __init__(self, certificate: Certificate) -> None:
        """Raises c2pa.C2paError when the certificate does not fit the profile."""
        self._certificate = certificate
        self._new_signer().close()

    def sign(self, data: bytes, file_format: str, title: str) -> bytes:
        """The same picture with a manifest in it that says: a model drew this, nobody changed it since."""
        action = {
            "action": "c2pa.created",
            "digitalSourceType": SOURCE_TYPE,
            "softwareAgent": GENERATOR,
        }
        manifest = {
            "claim_generator_info": [GENERATOR],
            "title": title,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        with (
            c2pa.Context.from_dict(SETTINGS) as context,
            c2pa.Builder(json.dumps(manifest), context=context) as builder,
            self._new_signer() as signer,
        ):
            builder.sign(signer, MIME_TYPES[file_format], io.BytesIO(data), signed)
        return signed.getvalue()

    def _new_signer(self) -> c2pa.Signer:
        info = c2pa.C2paSignerInfo(
            alg=b"es256",
            sign_cert=self._certificate.chain.encode(),
            private_key=self._certificate.key.encode(),
            ta_url=None,  # no time stamps: they would have to be asked for from somebody else
        )
        return c2pa.Signer.from_info(info)
