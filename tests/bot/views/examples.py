"""Jobs to render."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from bot.jobs.model import Job, JobKind, JobSnapshot, JobState, Progress, StoredImage
from bot.prompt.options import JobOptions
from t2i.api import CheckpointInfo

ASKED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

JOB = Job(
    id=42,
    kind=JobKind.IMAGINE,
    state=JobState.QUEUED,
    attempt=0,
    crashes=0,
    options=JobOptions(prompt="a red apple"),
    checkpoint="embedded",
    seed=7,
    user_id=1001,
    channel_id=2001,
    guild_id=3001,
    message_id=4001,
    interaction_token="secret-token",
    file_limit=None,
    parent_id=None,
    parent_index=None,
    created_at=ASKED,
    started_at=None,
    finished_at=None,
    error=None,
    seconds=None,
    shown_at=None,
)

EMBEDDED = CheckpointInfo(
    name="embedded",
    family="cascade",
    description="Small pictures of everyday things.",
    licence="MIT",
    sha256="0123456789abcdef" * 4,
    parameters=31_000_000,
    sizes=(64, 256),
    default_size=64,
    steps=30,
    sampler="dpmpp_2m",
    guidance_scale=3.0,
    samplers=("dpmpp_2m",),
)


def job(**changes: Any) -> Job:
    return replace(JOB, **changes)


def done(images: int = 4, **changes: Any) -> JobSnapshot:
    changes = {"options": JobOptions(prompt="a red apple", images=images), **changes}
    finished = job(state=JobState.DONE, finished_at=ASKED, seconds=5.25, **changes)
    stored = tuple(StoredImage(42, i, 7 + i, 64, 64, f"{i:064x}", f"{i + 9:064x}") for i in range(images))
    return JobSnapshot(finished, images=stored)


def running(step: int, steps: int, preview: bytes | None = None, **changes: Any) -> JobSnapshot:
    return JobSnapshot(job(state=JobState.RUNNING, **changes), progress=Progress(step, steps, preview))


def picture(size: int = 64, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((size, size)).convert("RGB").save(out, format)
    return out.getvalue()
