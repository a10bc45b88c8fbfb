"""How long the default picture classifier takes and what it says of harmless pictures.

`python -m benchmarks.classifier OUT` writes a JSON file.

The pictures are those that the embedded checkpoint draws of its evaluation prompts, and its references.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import t2i
from benchmarks.hashes import encoded, references
from bot.moderation.classifier import ClassifierProcess
from bot.moderation.policy import STANDARD
from t2i.api import GenerationRequest
from t2i.evaluation import prompts

TIMED = 40
AT_ONCE = 4
LIMITS = (0.2, STANDARD.spoiler_at, STANDARD.hold_at, STANDARD.block_at)


async def measure() -> dict[str, Any]:
    classifier = ClassifierProcess("open-nsfw")
    began = time.monotonic()
    await classifier.score([])
    started = time.monotonic() - began
    known = [encoded(picture) for picture in references()]
    drawn = [encoded(picture) for picture in await asyncio.to_thread(_drawn)]
    large = [encoded(picture.resize((512, 512), Image.Resampling.BICUBIC)) for picture in references()[:TIMED]]
    report = {
        "start_seconds": round(started, 3),
        "milliseconds": {
            "a picture of 512 px": await _median(classifier, [[picture] for picture in large]),
            "four pictures of 512 px": await _median(classifier, [large[i : i + 4] for i in range(0, TIMED, 4)]),
            "four pictures of 128 px": await _median(classifier, [known[i : i + 4] for i in range(0, TIMED, 4)]),
        },
        "references": _shares(await classifier.score(known)),
        "drawn": _shares(await classifier.score(drawn)),
    }
    await classifier.close()
    return report


def _drawn() -> list[Image.Image]:
    pipeline = t2i.load("embedded", "cpu")
    pictures: list[Image.Image] = []
    for seed, prompt in enumerate(prompts.grid()):
        pictures += pipeline.generate(GenerationRequest(prompt=prompt, images=AT_ONCE, seed=seed, steps=12)).images
    return pictures


async def _median(classifier: ClassifierProcess, requests: list[list[bytes]]) -> int:
    took = []
    for request in requests:
        began = time.monotonic()
        await classifier.score(request)
        took.append(time.monotonic() - began)
    return round(1000 * statistics.median(took))


def _shares(scores: object) -> dict[str, float | int]:
    """Of harmless pictures, how many are taken for explicit from which score on."""
    found = np.asarray(scores)
    return {"pictures": len(found), **{f"from {limit:g}": int((found >= limit).sum()) for limit in LIMITS}}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(measure()), indent=2) + "\n")
