"""The art that judges learn from: other vendors' emoji, never trained on by a checkpoint and never shipped."""

from __future__ import annotations

import json
from pathlib import Path

from t2i.training.sources import CAPTIONS, Icons, Package, bare_code, is_drawn, unpack

VENDORS = (
    Package(
        "npm", "@iconify-json/twemoji", "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "Twemoji, Copyright (c) Twitter, Inc and other contributors, CC-BY-4.0",
    ),
    Package(
        "npm", "@iconify-json/emojione", "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "EmojiOne 2, Copyright (c) Ranks.com Inc., CC-BY-4.0",
    ),
    Package(
        "npm", "@iconify-json/emojione-v1", "1.2.3",
        "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
        "EmojiOne 1, Copyright (c) Ranks.com Inc., CC-BY-SA-4.0",
    ),
    Package(
        "npm", "@iconify-json/streamline-emojis", "1.2.4",
        "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
        "Streamline Emojis, Copyright (c) Streamline, CC-BY-4.0",
    ),
    Package(
        "npm", "@iconify-json/fxemoji", "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "FxEmojis, Copyright (c) Mozilla Foundation, CC-BY-4.0",
    ),
    Package(
        "npm", "@iconify-json/openmoji", "1.2.29",
        "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        "OpenMoji, Copyright (c) the OpenMoji contributors, CC-BY-SA-4.0",
    ),
)  # fmt: skip


def fetch(folder: Path) -> int:
    """Fill `folder` with images/ and captions.jsonl; returns how many pictures there are.

    Raises FetchError when a package is missing, altered, or npm is not installed.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    emoji = json.loads((unpack(CAPTIONS, downloads) / "package" / "en" / "data.json").read_text())
    things = {bare_code(entry["hexcode"]): entry for entry in emoji if is_drawn(entry)}
    vendors: list[Icons] = []
    for package in VENDORS:
        vendors.append(Icons(unpack(package, downloads) / "package", vendors[0] if vendors else None))
    lines = []
    for vendor in vendors:
        for code, entry in things.items():
            file = f"{vendor.name}/{code}.webp"
            if vendor.render(code, folder / "images" / file):
                lines.append(
                    {"file": file, "caption": entry["label"], "tags": entry.get("tags", []), "group": entry["group"]}
                )
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)
