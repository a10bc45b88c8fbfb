"""`t2i verify FILE`: what a picture says of where it comes from."""

from __future__ import annotations

import argparse
from pathlib import Path

from t2i.provenance.certificate import ROOTS
from t2i.provenance.marks import UnreadablePicture
from t2i.provenance.verifying import Origin, verify

DEFAULT_ROOTS = Path("data/certificate") / ROOTS


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a PNG, WebP or JPEG")
    parser.add_argument(
        "--roots",
        type=Path,
        default=DEFAULT_ROOTS,
        help="certificates in PEM whose pictures count as made here (default %(default)s, which `imagine-bot data "
        "certificate` makes); without the file none do",
    )
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    """0 when every file was made here, else 1."""
    roots = arguments.roots.read_text() if arguments.roots.is_file() else ""
    origins = []
    for file in arguments.files:
        try:
            finding = verify(file.read_bytes(), roots)
        except OSError as error:
            raise UnreadablePicture(f"{file} cannot be read: {error.strerror}.") from None
        print(f"{file}: {finding.origin}. {finding.sentence}")
        if finding.text:
            print("".join(f"  {line}\n" for line in finding.text.splitlines()), end="")
        origins.append(finding.origin)
    return 0 if set(origins) == {Origin.MADE_HERE} else 1
