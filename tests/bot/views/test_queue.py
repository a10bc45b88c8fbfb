"""The queue as a list, and the day's GPU time."""

from __future__ import annotations

import re
from typing import Any

import discord
import pytest

from bot.jobs.model import Closure, JobSnapshot, JobState
from bot.jobs.quota import Usage
from bot.prompt.options import JobOptions
from bot.views import queue, usage
from bot.views.queue import QueueButton, QueuePress, QueueVerb, Scope
from tests.bot.views.examples import ASKED, job


def walk(view: discord.ui.LayoutView) -> list[dict[str, Any]]:
    def inner(component: dict[str, Any]) -> list[dict[str, Any]]:
        children = [*component.get("components", []), *filter(None, [component.get("accessory")])]
        return [component, *(found for child in children for found in inner(child))]

    return [found for component in view.to_components() for found in inner(component)]


def text(view: discord.ui.LayoutView) -> str:
    return "\n".join(component["content"] for component in walk(view) if component["type"] == 10)


def buttons(view: discord.ui.LayoutView) -> list[str]:
    return [component["custom_id"] for component in walk(view) if component["type"] == 2]


JOBS = [JobSnapshot(job(id=41, state=JobState.RUNNING)), JobSnapshot(job(id=42), position=0, done_at=ASKED)]


async def test_each_job_has_its_place_and_its_own_cancel() -> None:
    view = queue.render(Scope.MINE, JOBS, 3)

    assert "**a red apple** — <@1001>\n-# being drawn" in text(view)
    assert "Next in line · done <t:1777636800:R>" in text(view)
    assert "and 1 more" in text(view)
    assert buttons(view) == ["queue:mine:cancel:41", "queue:mine:cancel:42", "queue:mine:refresh:0"]


@pytest.mark.parametrize(
    ("closures", "words", "verbs"),
    [
        ({}, "2 jobs", ["pause", "drain", "clear"]),
        ({900: Closure.PAUSED}, "Paused", ["resume", "clear"]),
        ({0: Closure.PAUSED}, "Paused", ["resume", "clear"]),
        ({900: Closure.DRAINING}, "Draining", ["resume", "clear"]),
    ],
)
async def test_moderators_get_the_buttons_that_mean_something_now(
    closures: dict[int, Closure], words: str, verbs: list[str]
) -> None:
    view = queue.render(Scope.ALL, JOBS, 2, closures)

    assert words in text(view)
    assert [custom_id.split(":")[2] for custom_id in buttons(view)[3:]] == verbs


async def test_the_longest_list_stays_within_discords_limits() -> None:
    options = JobOptions(prompt="@everyone **bold** " * 50)
    jobs = [JobSnapshot(job(id=n, options=options), position=n, done_at=ASKED) for n in range(queue.SHOWN)]
    view = queue.render(Scope.ALL, jobs, 1000)

    assert view.total_children_count <= 40
    assert len(text(view)) <= 4000
    assert "@everyone" not in text(view)
    assert "and 992 more" in text(view)


async def test_a_button_is_known_again_by_its_id_alone() -> None:
    press = QueuePress(Scope.ALL, QueueVerb.CANCEL, 42)
    match = re.fullmatch(QueueButton.__discord_ui_compiled_template__, press.custom_id)
    assert match is not None
    again = await QueueButton.from_custom_id(None, None, match)  # type: ignore[arg-type]
    assert again.press == press


async def test_usage_shows_what_is_used_and_left() -> None:
    view = usage.render(Usage(15.0, 60.0, ASKED), Usage(90.0, None, ASKED), [(1001, 75.0)])

    assert "▰▰▰▰▱▱▱▱▱▱▱▱▱▱ **15.0 s** of 1 min 0 s used, 45.0 s left" in text(view)
    assert "This server\n**1 min 30 s** used, no limit\n1. <@1001> 1 min 15 s" in text(view)
    assert "Resets <t:1777636800:R>" in text(view)
