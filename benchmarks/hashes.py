"""How well the perceptual hash knows a removed picture again: `python -m benchmarks.hashes OUT`.

The pictures are the references of the embedded checkpoint, which its own pictures are made of.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from bot.moderation import hashes

REFERENCES = Path("t2i/weights/references")
SIDE = 256
REMOVED = 200
"""Pictures that are removed, chosen at random."""
LIMITS = (4, 6, 8, 10)
"""Bits in which hashes may differ, to choose `hashes.NEAR` among."""

Change = Callable[[Image.Image], bytes]


def main(out: Path) -> None:
    known = [encoded(picture) for picture in references()]
    chosen = np.random.default_rng(0).choice(len(known), REMOVED, replace=False)
    all_hashes = _numbers([hashes.phash(picture) for picture in known])
    found: dict[str, list[int]] = {name: [] for name in CHANGES}
    others: list[int] = []
    for index in chosen:
        removed = _numbers(hashes.variants(known[index]))
        for name, change in CHANGES.items():
            changed = change(Image.open(io.BytesIO(known[index])))
            found[name].append(_distance(removed, _numbers([hashes.phash(changed)]))[0])
        others += _distance(removed, np.delete(all_hashes, index)).tolist()
    report = {
        "pictures": len(known),
        "removed": REMOVED,
        "near": hashes.NEAR,
        "found": {name: _shares(distances) for name, distances in found.items()},
        "false_matches": _shares(others, digits=5),
    }
    out.write_text(json.dumps(report, indent=2) + "\n")


def references() -> list[Image.Image]:
    """On white, as RGB."""
    index = json.loads((REFERENCES / "index.json").read_text())
    side, atlas = index["side"], Image.open(REFERENCES / "pictures.webp")
    columns = atlas.width // side
    found = []
    for number in range(len(index["entries"])):
        left, top = number % columns * side, number // columns * side
        picture = atlas.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        found.append(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
    return found


def encoded(picture: Image.Image, format: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def _jpeg(quality: int) -> Change:
    return lambda picture: encoded(picture, "JPEG", quality=quality)


def _resized(scale: float) -> Change:
    side = round(SIDE * scale)
    return lambda picture: encoded(picture.resize((side, side), Image.Resampling.BICUBIC))


def _cropped(left: float, top: float, share: float) -> Change:
    """`share` of the side is lost, `left` and `top` of that at the left and at the top."""
    lost = SIDE * share
    x, y, side = round(lost * left), round(lost * top), round(SIDE - lost)
    return lambda picture: encoded(picture.crop((x, y, x + side, y + side)))


def _brightened(factor: float) -> Change:
    return lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(factor))


CHANGES: dict[str, Change] = {
    "JPEG, quality 30": _jpeg(30),
    "JPEG, quality 60": _jpeg(60),
    "JPEG, quality 90": _jpeg(90),
    "resized to 50 %": _resized(0.5),
    "resized to 150 %": _resized(1.5),
    "cropped by 5 %, middle": _cropped(0.5, 0.5, 0.05),
    "cropped by 5 %, corner": _cropped(0, 1, 0.05),
    "cropped by 5 %, one side": _cropped(0, 0.5, 0.05),
    "cropped by 10 %, middle": _cropped(0.5, 0.5, 0.1),
    "mirrored": lambda picture: encoded(ImageOps.mirror(picture)),
    "brightness +15 %": _brightened(1.15),
    "brightness -15 %": _brightened(0.85),
    "turned by 3 degrees": lambda picture: encoded(picture.rotate(3, Image.Resampling.BICUBIC, fillcolor="white")),
}


def _numbers(found: list[str]) -> np.ndarray:
    return np.array([int(one, 16) for one in found], np.uint64)


def _distance(removed: np.ndarray, others: np.ndarray) -> np.ndarray:
    """From each of the others to the nearest variant of what was removed."""
    nearest: np.ndarray = np.bitwise_count(removed[:, None] ^ others[None]).min(axis=0)
    return nearest


def _shares(distances: list[int], digits: int = 3) -> dict[str, float]:
    within = np.array(distances)
    return {str(limit): round(float((within <= limit).mean()), digits) for limit in LIMITS}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
