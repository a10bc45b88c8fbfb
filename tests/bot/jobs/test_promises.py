"""What was promised is in a file until it is kept, whatever cuts the bot short."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bot.jobs.promises import Promises
from bot.prompt.options import JobOptions

from .conftest import new_job

PROMISED = replace(
    new_job(),
    interaction_id=1191168914353029120,
    options=JobOptions(prompt="ein Apfel 🍎", negative_prompt="blau", seed=2**40, steps=9),
    parent_id=3,
    parent_index=2,
    role_ids=(5, 7),
    held="for a rule",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "promises"


async def test_a_promise_lies_in_a_file_until_it_is_kept(folder: Path) -> None:
    async with Promises(folder).kept(PROMISED):
        assert Promises(folder).all() == [PROMISED]

    assert Promises(folder).all() == []


async def test_a_promise_that_was_cut_short_is_found_by_the_next_start(folder: Path) -> None:
    async def promise() -> None:
        async with Promises(folder).kept(PROMISED):
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    promising = asyncio.create_task(promise())
    await begun.wait()
    promising.cancel()
    await asyncio.wait({promising})

    assert Promises(folder).all() == [PROMISED]


async def test_promises_are_found_in_the_order_of_their_interactions(folder: Path) -> None:
    for number in (10, 9, 11):
        with pytest.raises(LookupError):
            async with Promises(folder).kept(replace(PROMISED, interaction_id=number)):
                raise LookupError

    assert [new.interaction_id for new in Promises(folder).all()] == [9, 10, 11]


async def test_a_disk_that_refuses_the_file_does_not_keep_the_answer_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    async with Promises(tmp_path / "file" / "promises").kept(PROMISED):
        answered = True

    assert answered
    assert "is deferred without a file" in caplog.text
    assert PROMISED.interaction_token not in caplog.text


def test_what_cannot_be_read_is_named_and_deleted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()
    (folder / "7.json").write_text('{"interaction_id": 7')
    (folder / ".0123.tmp").write_text("half a promi")

    assert Promises(folder).all() == []
    assert "7.json cannot be read and is deleted" in caplog.text
    assert list(folder.iterdir()) == []


def test_where_nothing_was_promised_there_is_nothing(folder: Path) -> None:
    assert Promises(folder).all() == []
