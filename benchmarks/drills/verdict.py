"""What came of every job: nothing lost, nothing twice, the right pictures, or by how much not."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import Row

from benchmarks.drills.crowd import Asked, Crowd, Wish
from benchmarks.drills.stage import Stage
from benchmarks.gates import Gate, at_most
from bot.jobs.model import JobKind
from bot.jobs.work import side
from bot.prompt.options import JobOptions
from bot.views.pictures import for_display
from t2i import api
from t2i.engine.client import LocalEngine

TOLERANCE = 16
"""Of 255: by how much a channel of a pixel may differ. Rounding, which depends on who shared the batch, has made 6 in
some thousand pictures; of pictures of two seeds, the nearest two of 5,510 pairs were 109 apart."""


@dataclass(slots=True)
class Verdict:
    jobs: int
    """Interactions that were acknowledged."""
    posted: int
    failed: int
    cancelled: int
    lost: int
    """Acknowledged, and no row or no message is left of it."""
    unfinished: int
    """Acknowledged, and its message or its row does not say how it ended."""
    duplicates: int
    """Messages beyond the one of each acknowledged interaction, and pictures that two messages show."""
    wrong: int
    """Jobs whose message shows other pictures than their seeds draw."""
    reverted: int
    """Messages that showed an end, then something else."""
    reruns: int
    """Attempts beyond the first of each job."""
    shown_again: int
    """Ends that were shown by more than one edit of the one message."""
    left: list[str]
    """The first of what is lost, unfinished or wrong."""
    bit_equal: float
    """Share of the posted jobs whose pictures are the reference's, bit by bit."""

    def figures(self) -> dict[str, Any]:
        return asdict(self)

    def gates(self) -> list[Gate]:
        return [
            at_most(name, getattr(self, name), 0) for name in ("lost", "unfinished", "duplicates", "wrong", "reverted")
        ]


async def judge(stage: Stage, crowd: Crowd) -> Verdict:
    """Count, once nothing happens any more. An engine that nobody disturbs draws the reference pictures, unless the
    stage has them already."""
    rows = {row.interaction_id: row for row in await stage.rows()}
    acknowledged = crowd.acknowledged
    posted = [asked for asked in acknowledged if asked.ended == "posted" and not asked.deleted]
    wrong, equal = await _compare(stage, posted)
    harmed = [_described(asked, rows) for asked in acknowledged if _lost(asked, rows) or _unfinished(asked, rows)]
    ended = Counter(asked.ended for asked in acknowledged if not asked.deleted)
    return Verdict(
        jobs=len(acknowledged),
        posted=ended["posted"],
        failed=ended["failed"] + sum(asked.deleted and asked.refused is not None for asked in acknowledged),
        cancelled=ended["cancelled"],
        lost=sum(_lost(asked, rows) for asked in acknowledged),
        unfinished=sum(_unfinished(asked, rows) for asked in acknowledged),
        duplicates=_duplicates(crowd.asked, posted),
        wrong=len(wrong),
        reverted=sum(asked.reverted for asked in acknowledged),
        reruns=sum(max(0, row.attempt - 1) for row in rows.values()),
        shown_again=sum(asked.ends > 1 for asked in acknowledged),
        left=[*harmed, *wrong][:5],
        bit_equal=round(equal / len(posted), 4) if posted else 0.0,
    )


def _lost(asked: Asked, rows: dict[int, Row[Any]]) -> bool:
    if asked.deleted:  # a deferred answer that could not be kept is taken back with a sentence
        return asked.refused is None
    return asked.interaction_id not in rows or not asked.messages


def _unfinished(asked: Asked, rows: dict[int, Row[Any]]) -> bool:
    row = rows.get(asked.interaction_id)
    return asked.open or (row is not None and row.shown_at is None)


def _described(asked: Asked, rows: dict[int, Row[Any]]) -> str:
    row = rows.get(asked.interaction_id)
    kept = "no row" if row is None else f"row {row.id} {row.state}, attempt {row.attempt}, shown {row.shown_at}"
    return f"thing {asked.wish.number}: {asked.ended or 'open'}, {len(asked.messages)} messages, {kept}"


def _duplicates(everything: Sequence[Asked], posted: Sequence[Asked]) -> int:
    messages = sum(max(0, len(asked.messages) - (asked.acknowledged is not None)) for asked in everything)
    seen = Counter(content for asked in posted for content in set(map(_content, _pictures(asked))))
    return messages + sum(count - 1 for count in seen.values())


def _pictures(asked: Asked) -> list[bytes]:
    return [attachment.data for attachment in asked.messages[0].attachments]


async def _compare(stage: Stage, posted: Sequence[Asked]) -> tuple[list[str], int]:
    """What is wrong with the posted jobs that show wrong pictures, and how many show the reference's to the bit."""
    wrong, equal = [], 0
    references = stage.references or await draw(stage.checkpoints_dir, [asked.wish for asked in posted])
    for asked in posted:
        shown, wanted = _pictures(asked), references[asked.wish.number]
        equal += list(map(_content, shown)) == list(map(_content, wanted))
        if len(shown) != len(wanted):
            wrong.append(f"thing {asked.wish.number}: {len(shown)} pictures instead of {len(wanted)}")
        elif (difference := max(map(_difference, shown, wanted))) > TOLERANCE:
            wrong.append(f"thing {asked.wish.number}: {difference} of 255 away from its seed's")
    return wrong, equal


def _difference(shown: bytes, wanted: bytes) -> int:
    """The largest, of any channel of any pixel; 255 when they cannot be compared."""
    try:
        one, other = (_pixels(data) for data in (shown, wanted))
    except OSError:  # what is shown is no picture
        return 255
    return int(np.abs(one - other).max()) if one.shape == other.shape else 255


def _content(data: bytes) -> bytes:
    """What there is to see: files of one picture differ, as each is signed anew. The file itself, if it is none."""
    try:
        return _pixels(data).tobytes()
    except OSError:
        return data


def _pixels(data: bytes) -> NDArray[np.int16]:
    """Premultiplied: nobody sees the colour of what is transparent."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa"), dtype=np.int16)


TRIES = 5
"""Of the undisturbed engine to draw one wish."""


async def draw(checkpoints_dir: Path, wishes: Sequence[Wish]) -> dict[int, list[bytes]]:
    """The pictures of each wish by its number, as a message shows them."""
    engine = LocalEngine(checkpoints_dir=checkpoints_dir, default="tiny", hardware=api.Hardware(dtype="float32"))
    await engine.start()
    try:
        await engine.wait_ready()
        info = next(info for info in engine.checkpoints() if info.name == "tiny")
        room = asyncio.Semaphore(engine.slots())

        async def one(wish: Wish) -> list[bytes]:
            # A machine that is all but out of time stops this engine too; the bot's own is what is judged.
            for _ in range(TRIES - 1):
                with suppress(api.EngineCrashed):
                    return await once(wish)
            return await once(wish)

        async def once(wish: Wish) -> list[bytes]:
            options = JobOptions(prompt=wish.prompt, seed=wish.seed, images=wish.images, steps=wish.steps)
            request = msgspec.structs.replace(options, size=side(JobKind.IMAGINE, options, info)).to_request()
            found: dict[int, bytes] = {}
            async with room:
                async for event in engine.run(request, request_id=str(wish.number), checkpoint="tiny"):
                    if isinstance(event, api.ImageReady):
                        found[event.index] = for_display(event.png, "png")
            return [found[index] for index in sorted(found)]

        drawn = await asyncio.gather(*(one(wish) for wish in wishes))
        return dict(zip((wish.number for wish in wishes), drawn, strict=True))
    finally:
        await engine.close()
