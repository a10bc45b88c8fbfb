"""A sheet of sample pictures for each checkpoint, drawn once and kept beside the database."""

from __future__ import annotations

import asyncio
import io
import secrets
import statistics
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

from PIL import Image

from bot.jobs.measures import Measure, Measures
from t2i import api
from t2i.engine.client import Engine

PROMPTS = (
    "a red apple on a wooden table",
    "a lighthouse by the sea at sunset",
    "portrait of an old sailor",
    "a castle in the mountains, watercolour",
)
SIDE = 384
"""Pixels of one picture's side on the sheet, at most."""


class Samples:
    """One checkpoint's sheet at a time; it is known by the checkpoint's hash, so that other weights get another one."""

    def __init__(self, engine: Engine, measures: Measures, folder: Path) -> None:
        self._engine = engine
        self._measures = measures
        self._folder = folder
        self._drawing = asyncio.Lock()

    def loaded(self, name: str) -> bool:
        """Whether drawing with it begins at once."""
        return name in self._engine.loaded()

    async def measure(self, info: api.CheckpointInfo) -> Measure | None:
        """What it was last seen to need."""
        return await self._measures.of(info.sha256)

    def kept(self, info: api.CheckpointInfo) -> bytes | None:
        """The sheet as WebP, where it was drawn before; reads the disk."""
        file = self._file(info)
        return file.read_bytes() if file.is_file() else None

    async def draw(self, info: api.CheckpointInfo) -> bytes:
        """The same, drawn now where it was not. Raises T2IError or OSError."""
        async with self._drawing:
            if (sheet := await asyncio.to_thread(self.kept, info)) is not None:
                return sheet
            pictures, seconds = [], []
            for number, prompt in enumerate(PROMPTS):
                picture, took = await self._picture(info, number, prompt)
                pictures.append(picture)
                seconds.append(took)
            sheet = await asyncio.to_thread(_sheet, pictures)
            await asyncio.to_thread(self._keep, info, sheet)
            measure = Measure(statistics.median(seconds), self._engine.weights().get(info.name))
            await self._measures.record(info.sha256, measure)
            return sheet

    async def _picture(self, info: api.CheckpointInfo, number: int, prompt: str) -> tuple[bytes, float]:
        side = info.sizes[0]
        request = api.GenerationRequest(prompt=prompt, images=1, seed=number, width=side, height=side)
        stream = self._engine.run(
            request, request_id=f"sample {info.sha256[:12]} {number}", checkpoint=info.name, preview_every=0
        )
        png: bytes | None = None
        async with aclosing(cast(AsyncGenerator[api.RequestEvent, None], stream)) as events:
            async for event in events:
                match event:
                    case api.ImageReady():
                        png = event.png
                    case api.Failed(message=message, code=code):
                        raise api.EngineError(message, code=code)
                    case api.Done(seconds=seconds) if png is not None:
                        return png, seconds
        raise api.EngineError("No picture came of it.")

    def _keep(self, info: api.CheckpointInfo, sheet: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{secrets.token_hex(8)}.tmp"
        draft.write_bytes(sheet)
        draft.replace(self._file(info))

    def _file(self, info: api.CheckpointInfo) -> Path:
        return self._folder / f"{info.sha256}.webp"


def _sheet(pictures: list[bytes]) -> bytes:
    """Two by two on white, as WebP."""
    images = [Image.open(io.BytesIO(picture)).convert("RGBA") for picture in pictures]
    side = min(SIDE, max(128, images[0].width))
    sheet = Image.new("RGBA", (2 * side, 2 * side), "white")
    for index, image in enumerate(images):
        sheet.alpha_composite(
            image.resize((side, side), Image.Resampling.LANCZOS), (index % 2 * side, index // 2 * side)
        )
    buffer = io.BytesIO()
    sheet.convert("RGB").save(buffer, "WEBP", quality=88)
    return buffer.getvalue()
