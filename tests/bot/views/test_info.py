"""The private page about a job, and the lists."""

from __future__ import annotations

from typing import Any

from discord import ui
from msgspec.structs import replace

from bot.jobs.model import JobKind
from bot.prompt.options import JobOptions
from bot.views import checkpoints, help, info
from tests.bot.views.examples import EMBEDDED, done


def text(view: ui.LayoutView) -> str:
    items: list[Any] = list(view.walk_children())
    return "\n".join(item.content for item in items if isinstance(item, ui.TextDisplay))


async def test_info_shows_every_parameter_and_where_it_came_from() -> None:
    page = text(info.render(done(), EMBEDDED))

    assert "### Job 42" in page
    assert "**Seeds:** 7, 8, 9, 10" in page
    assert "**Size:** 64 × 64 px" in page
    assert "**Steps:** 30 (default)" in page
    assert "**Guidance:** 3.0 (default)" in page
    assert "**Sampler:** dpmpp_2m (default)" in page
    assert "**Checkpoint:** embedded (`0123456789ab`)" in page
    assert "**Took:** 5.2 s" in page
    assert "/imagine prompt: a red apple seed: 7 checkpoint: embedded" in page
    assert "Origin" not in page


async def test_info_tells_given_values_from_defaults() -> None:
    options = JobOptions(prompt="a boat", negative_prompt="people", steps=12, guidance_scale=7.0, images=1)

    page = text(info.render(done(options=options), EMBEDDED))

    assert "**Negative prompt:** people" in page
    assert "**Steps:** 12\n" in page
    assert "**Guidance:** 7\n" in page


async def test_info_of_a_variation_names_its_parent_and_promises_nothing() -> None:
    snapshot = done(kind=JobKind.VARIATION, parent_id=41, parent_index=1)

    page = text(info.render(snapshot, EMBEDDED))

    assert "**Origin:** Variation of picture 2 (job 41)" in page
    assert "this comes closest" in page


async def test_the_longest_prompts_fit_with_the_whole_command() -> None:
    options = JobOptions(prompt="*" * 1000, negative_prompt="_" * 1000)

    page = text(info.render(done(options=options), EMBEDDED))

    assert len(page) <= 4000
    assert options.prompt in page
    assert options.negative_prompt is not None
    assert options.negative_prompt in page


async def test_a_prompt_cannot_break_out_of_its_code_block() -> None:
    page = text(info.render(done(options=JobOptions(prompt="``` @everyone")), None))

    assert page.count("```") == 2


async def test_the_checkpoint_list_marks_the_one_in_use() -> None:
    page = text(checkpoints.render([EMBEDDED], "embedded"))

    assert "**embedded** · **in use here**" in page
    assert "64 and 256 px · 30 steps · 31 M parameters · MIT" in page


async def test_a_hundred_checkpoints_fit_into_one_message() -> None:
    many = [replace(EMBEDDED, name=f"model-{n}", description="long " * 100, licence="CC " * 50) for n in range(100)]

    page = text(checkpoints.render(many, "other"))

    assert len(page) <= 4000
    assert "and 90 more" in page


async def test_help_fits_into_one_message() -> None:
    assert 0 < len(text(help.render())) <= 4000
