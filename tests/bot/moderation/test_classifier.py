"""The classifier's process: the default one on real pixels, and what becomes of requests when it dies."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from bot.errors import NotJudged
from bot.moderation.classifier import ClassifierProcess

ROOT = Path(__file__).parents[3]
OWN = "tests.bot.moderation.classifiers:"

Start = Callable[[str], ClassifierProcess]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    async with AsyncExitStack() as stack:

        def started(name: str) -> ClassifierProcess:
            classifier = ClassifierProcess(name)
            stack.push_async_callback(classifier.close)
            return classifier

        yield started


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "bot.moderation.scoring" in child.cmdline()]


def generated(mode: str = "RGBA", side: int = 512) -> bytes:
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC).convert(mode).save(out, "PNG")
    return out.getvalue()


async def test_the_default_classifier_judges_generated_pictures_in_a_process_of_its_own(
    start: Start, record_property: Callable[[str, object], None]
) -> None:
    classifier = start("open-nsfw")
    scores = await classifier.score([generated("RGB"), generated(), generated("L", side=64)])
    assert len(scores) == 3
    assert all(0 <= score < 0.2 for score in scores), "colours at random are harmless"
    took = []
    for _ in range(5):
        began = time.monotonic()
        await classifier.score([generated("RGB")])
        took.append(time.monotonic() - began)
    record_property("median milliseconds for a picture of 512 px", round(1000 * statistics.median(took)))
    assert statistics.median(took) < 2.0
    [process] = children()
    assert not any("torch" in mapped.path for mapped in process.memory_maps())
    with pytest.raises(NotJudged):
        await classifier.score([b"no picture"])
    assert classifier.works, "a picture that cannot be read is not the classifier's fault"


async def test_it_yields_the_processors_to_the_bot(start: Start) -> None:
    classifier = start("open-nsfw")
    await classifier.score([generated("RGB", side=64)])
    (child,) = children()
    assert child.nice() > psutil.Process().nice()
    assert os.getsid(child.pid) == os.getsid(0), "niceness is weighed among the processes of one session"
    assert os.getpgid(child.pid) == child.pid, "Ctrl+C in a terminal would end it before the bot has ended"


async def test_it_is_started_again_once_and_then_says_that_it_does_not_work(start: Start) -> None:
    classifier = start(f"{OWN}ByLength")
    assert await classifier.score([b"12345", b""]) == [0.05, 0]
    [process] = children()
    process.kill()
    assert await classifier.score([b"1"]) == [0.01], "it was started again"
    with pytest.raises(NotJudged):
        await classifier.score([b"die"])
    assert not classifier.works
    assert await classifier.score([b"1"]) == [0.01], "one request that kills it harms no other"
    assert classifier.works


async def test_the_id_of_a_process_that_has_ended_is_not_its_own_any_more(start: Start) -> None:
    classifier = start(f"{OWN}ByLength")
    await classifier.score([])
    [process] = children()
    assert classifier.pid == process.pid
    process.kill()
    async with asyncio.timeout(10):
        while classifier.pid is not None:  # noqa: ASYNC110 - that it ended is heard of in the background
            await asyncio.sleep(0.01)


async def test_requests_at_once_get_their_own_answers_also_after_one_was_given_up(start: Start) -> None:
    classifier = start(f"{OWN}ByLength")
    await classifier.score([])
    given_up = asyncio.create_task(classifier.score([b"12345"]))
    await asyncio.sleep(0)  # it is asked
    assert not classifier.idle
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert classifier.idle
    lengths = range(8)
    asked = [asyncio.create_task(classifier.score([b"x" * length])) for length in lengths]
    assert await asyncio.gather(*asked) == [[length / 100] for length in lengths]


async def test_one_that_cannot_be_loaded_fails_every_request(start: Start) -> None:
    classifier = start(f"{OWN}NeverThere")
    with pytest.raises(NotJudged):
        await classifier.score([b"1"])
    assert not classifier.works


async def test_its_process_ends_with_the_bot(start: Start) -> None:
    classifier = start(f"{OWN}ByLength")
    await classifier.score([])
    [process] = children()
    await classifier.close()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("stopped", [False, True], ids=["runs", "stopped for a crowd"])
async def test_no_process_is_left_behind_when_the_bot_is_killed(stopped: bool) -> None:
    program = f"""
import asyncio
from bot.moderation.classifier import ClassifierProcess
async def main():
    classifier = ClassifierProcess("{OWN}ByLength")
    await classifier.score([])
    print(classifier.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    bot = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert bot.stdout is not None
    left = psutil.Process(int(await bot.stdout.readline()))
    if stopped:
        left.suspend()
    bot.kill()
    await bot.wait()
    await asyncio.to_thread(left.wait, 10)
