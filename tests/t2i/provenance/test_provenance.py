"""Files say where they come from, prove it, and stop proving it when they are changed."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import c2pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i import provenance
from t2i.cli import main
from t2i.provenance import MIME_TYPES, Certificate, CertificateError, Marks, Origin, Signer, UnreadablePicture, verify

FORMATS = tuple(MIME_TYPES)
MARKS = Marks("a <red> apple & “pear” 🍎", "blurry", {"Steps": "20", "Seed": "7"})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return provenance.create(tmp_path_factory.mktemp("ours") / "certificate", "Our Server")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return provenance.create(tmp_path_factory.mktemp("theirs"), "Their Server")


def drawn(file_format: str, marks: Marks | None = MARKS) -> bytes:
    picture = Image.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3))
    out = io.BytesIO()
    picture.save(out, file_format, **(marks.saving(file_format) if marks else {}))
    return out.getvalue()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_signed_picture_was_made_here_and_is_the_same_picture(file_format: str, ours: Certificate) -> None:
    plain = drawn(file_format)
    signed = Signer(ours).sign(plain, file_format, "apple")
    finding = verify(signed, ours.roots)
    assert (finding.origin, finding.signed_by, finding.text) == (Origin.MADE_HERE, "Our Server", MARKS.text)
    assert Image.open(io.BytesIO(signed)).tobytes() == Image.open(io.BytesIO(plain)).tobytes()


@pytest.mark.parametrize("file_format", FORMATS)
def test_c2pas_own_reader_finds_that_a_model_drew_it(file_format: str, ours: Certificate) -> None:
    signed = Signer(ours).sign(drawn(file_format), file_format, "apple")
    with c2pa.Reader(MIME_TYPES[file_format], io.BytesIO(signed)) as reader:
        assert reader.get_validation_state() == "Valid"
        report = json.loads(reader.json())
    manifest = report["manifests"][report["active_manifest"]]
    (actions,) = (one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions"))
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_changed_pixel_shows(file_format: str, ours: Certificate) -> None:
    signed = bytearray(Signer(ours).sign(drawn(file_format, None), file_format, "apple"))
    inside = {"png": b"IDAT", "webp": b"VP8", "jpeg": b"\xff\xda"}[file_format]
    place = signed.rfind(inside) + 400
    signed[place] ^= 1
    if file_format == "png":  # whose chunks have checksums, which an editor writes anew
        with pytest.raises(UnreadablePicture):
            verify(bytes(signed), ours.roots)
        signed = _with_another_text(Signer(ours).sign(drawn("png", None), "png", "apple"))
    finding = verify(bytes(signed), ours.roots)
    assert (finding.origin, finding.signed_by) == (Origin.EDITED, "Our Server")


def _with_another_text(png: bytes) -> bytearray:
    """A chunk more, with a sound checksum, before the end."""
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "png", pnginfo=_text("Comment", "changed"))
    extra = out.getvalue()
    begin = extra.index(b"tEXt") - 4
    end = begin + 12 + int.from_bytes(extra[begin : begin + 4])
    tail = png.rindex(b"IEND") - 4
    return bytearray(png[:tail] + extra[begin:end] + png[tail:])


def _text(key: str, value: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(key, value)
    return info


@pytest.mark.parametrize("file_format", FORMATS)
def test_marks_alone_prove_nothing_and_no_marks_say_nothing(file_format: str, ours: Certificate) -> None:
    assert verify(drawn(file_format), ours.roots).origin is Origin.EDITED
    assert verify(drawn(file_format, None), ours.roots).origin is Origin.UNKNOWN


def test_a_strangers_signature_is_not_ours(ours: Certificate, theirs: Certificate) -> None:
    signed = Signer(theirs).sign(drawn("png"), "png", "apple")
    finding = verify(signed, ours.roots)
    assert finding.origin is Origin.UNKNOWN
    assert "Their Server" in finding.sentence
    assert verify(signed, "").origin is Origin.UNKNOWN


def test_a_new_certificate_leaves_old_pictures_known(tmp_path: Path) -> None:
    old = provenance.create(tmp_path, "Old Name")
    signed = Signer(old).sign(drawn("png"), "png", "apple")
    with pytest.raises(CertificateError, match="already"):
        provenance.create(tmp_path, "New Name")
    new = provenance.create(tmp_path, "New Name", replace=True)
    assert verify(signed, new.roots).origin is Origin.MADE_HERE
    assert verify(Signer(new).sign(drawn("png"), "png", "pear"), new.roots).signed_by == "New Name"


def test_the_key_is_for_its_owner_only_and_damage_is_said(tmp_path: Path, theirs: Certificate) -> None:
    provenance.create(tmp_path, "Ours")
    assert (tmp_path / "signer.key").stat().st_mode & 0o077 == 0
    (tmp_path / "signer.key").write_text(theirs.key)
    with pytest.raises(CertificateError, match="not the key"):
        provenance.load(tmp_path)
    (tmp_path / "signer.pem").write_text("nothing")
    with pytest.raises(CertificateError, match="damaged"):
        provenance.load(tmp_path)
    with pytest.raises(CertificateError, match="no certificate"):
        provenance.load(tmp_path / "elsewhere")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80), st.sampled_from(FORMATS))
def test_whatever_was_asked_for_is_read_back(prompt: str, file_format: str) -> None:
    marks = Marks(prompt, None, {"Seed": "7"})
    said = provenance.read_marks(drawn(file_format, marks))
    assert said is not None
    kept = "".join(char for char in marks.text if char.isprintable() or char in "\n\t")
    assert said.split() == kept.split()


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", drawn("png")[:300]])
def test_what_is_no_picture_is_refused(data: bytes, ours: Certificate) -> None:
    with pytest.raises(UnreadablePicture):
        verify(data, ours.roots)


def test_a_picture_of_absurd_size_is_not_decoded(ours: Certificate) -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 4_000)).save(out, "png")
    with pytest.raises(UnreadablePicture, match="million pixels"):
        verify(out.getvalue(), ours.roots)


def test_the_command_says_it_of_files(tmp_path: Path, ours: Certificate, capsys: pytest.CaptureFixture[str]) -> None:
    roots, good, bare = tmp_path / "roots.pem", tmp_path / "good.png", tmp_path / "bare.png"
    roots.write_text(ours.roots)
    good.write_bytes(Signer(ours).sign(drawn("png"), "png", "apple"))
    bare.write_bytes(drawn("png", None))
    assert main(["verify", "--roots", str(roots), str(good)]) == 0
    assert "made here" in capsys.readouterr().out
    assert main(["verify", "--roots", str(roots), str(good), str(bare)]) == 1
    assert "unknown" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "missing.png")]) == 1
    assert "cannot be read" in capsys.readouterr().err
