"""A job's message in every state."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import discord
import pytest
from PIL import Image

from bot.jobs.delivery import Rendered
from bot.jobs.model import JobKind, JobSnapshot, JobState, Showing
from bot.prompt.options import JobOptions
from bot.views.job import ACCENTS, render
from tests.bot.views.examples import ASKED, EMBEDDED, done, job, picture, running

FOUR = {index: picture() for index in range(4)}


def walk(rendered: Rendered) -> list[dict[str, Any]]:
    def inner(component: dict[str, Any]) -> list[dict[str, Any]]:
        return [component, *(found for child in component.get("components", []) for found in inner(child))]

    return [found for component in rendered.view.to_components() for found in inner(component)]


def text(rendered: Rendered) -> str:
    return "\n".join(component["content"] for component in walk(rendered) if component["type"] == 10)


def rows(rendered: Rendered) -> list[list[str]]:
    found = [component for component in walk(rendered) if component["type"] == 1]
    return [[button["label"] for button in row["components"]] for row in found]


def gallery(rendered: Rendered) -> list[dict[str, Any]]:
    return [item for component in walk(rendered) if component["type"] == 12 for item in component["items"]]


def accent(rendered: Rendered) -> int:
    colour: int = rendered.view.to_components()[0]["accent_color"]
    return colour


@pytest.mark.parametrize(
    ("position", "place"), [(None, "Waiting its turn"), (0, "Next in line"), (1, "1 job ahead"), (5, "5 jobs ahead")]
)
async def test_a_waiting_job_shows_its_place_and_can_be_cancelled(position: int | None, place: str) -> None:
    message = render(JobSnapshot(job(), position=position))

    assert place in text(message)
    assert "**a red apple** — <@1001>" in text(message)
    assert "asked <t:1777636800:R>" in text(message)
    assert rows(message) == [["Cancel"]]
    assert message.files == []


async def test_a_waiting_job_says_when_it_will_be_done_where_that_is_known() -> None:
    message = render(JobSnapshot(job(), position=3, done_at=ASKED))

    assert "🕓 3 jobs ahead · done <t:1777636800:R>\n" in text(message)


async def test_a_paused_job_says_so_instead_of_a_place() -> None:
    message = render(JobSnapshot(job(), position=3, paused=True))

    assert "Paused by a moderator, its place is kept" in text(message)
    assert "ahead" not in text(message)


async def test_a_running_job_shows_bar_percent_step_and_preview() -> None:
    message = render(running(13, 52, picture(128, "WEBP")))

    assert "▰▰▰▰▱▱▱▱▱▱▱▱▱▱ **25 %** · step 13 of 52" in text(message)
    assert rows(message) == [["Cancel"]]
    assert [file.filename for file in message.files] == ["preview.webp"]
    assert [item["media"]["url"] for item in gallery(message)] == ["attachment://preview.webp"]
    assert gallery(message)[0]["description"] == "Preview: a red apple"


async def test_a_running_job_without_progress_is_starting() -> None:
    message = render(JobSnapshot(job(state=JobState.RUNNING)))

    assert "**0 %** · starting" in text(message)
    assert gallery(message) == []


async def test_a_finished_job_shows_its_pictures_its_facts_and_every_button() -> None:
    message = render(done(), FOUR, "png", EMBEDDED)

    names = [f"a-red-apple-42-{number}.png" for number in (1, 2, 3, 4)]
    assert [file.filename for file in message.files] == names
    assert [item["media"]["url"] for item in gallery(message)] == [f"attachment://{name}" for name in names]
    assert [item["description"] for item in gallery(message)] == [
        f"Picture {number} of 4: a red apple" for number in (1, 2, 3, 4)
    ]
    assert "-# seed 7 · 64 × 64 · 30 steps · embedded · 5.2 s · <t:1777636800:R>" in text(message)
    assert rows(message) == [["U1", "U2", "U3", "U4"], ["V1", "V2", "V3", "V4"], ["Reroll", "Info", "Report", "Delete"]]


async def test_small_pictures_are_enlarged_for_display() -> None:
    message = render(done(), FOUR)

    sizes = [Image.open(file.fp).size for file in message.files]
    assert sizes == [(256, 256)] * 4


async def test_large_pictures_are_made_small_where_nothing_else_fits() -> None:
    data = io.BytesIO()
    Image.new("RGBA", (2048, 1024), (9, 9, 9, 255)).save(data, "PNG")

    (file,) = render(done(images=1), {0: data.getvalue()}, "small").files

    shown = Image.open(file.fp)
    assert (shown.size, shown.format) == ((1024, 512), "JPEG")
    assert file.filename.endswith(".jpeg")


@pytest.mark.parametrize(("encoding", "corner"), [("png", (0, 0, 0, 0)), ("jpeg", (255, 255, 255, 255))])
async def test_an_empty_ground_stays_empty_where_the_encoding_can(encoding: Any, corner: tuple[int, ...]) -> None:
    sticker = Image.new("RGBA", (64, 64))
    sticker.paste((200, 30, 30, 255), (16, 16, 48, 48))
    data = io.BytesIO()
    sticker.save(data, "PNG")

    (file,) = render(done(images=1), {0: data.getvalue()}, encoding).files

    assert Image.open(file.fp).convert("RGBA").getpixel((0, 0)) == corner


@pytest.mark.parametrize("encoding", ["webp", "jpeg"])
async def test_pictures_too_large_for_discord_go_out_in_another_encoding(encoding: Any) -> None:
    message = render(done(images=1), {0: picture(512)}, encoding)

    (file,) = message.files
    assert file.filename.endswith(f".{encoding}")
    assert Image.open(file.fp).format == encoding.upper()


async def test_two_pictures_have_two_buttons_each() -> None:
    message = render(done(images=2), FOUR)

    assert rows(message)[:2] == [["U1", "U2"], ["V1", "V2"]]


async def test_buttons_carry_verb_job_and_index() -> None:
    ids = [component["custom_id"] for component in walk(render(done(), FOUR)) if component["type"] == 2]

    assert ids == [*(f"u:42:{i}" for i in range(1, 5)), *(f"v:42:{i}" for i in range(1, 5)), *LAST_ROW]


LAST_ROW = ["reroll:42:0", "info:42:0", "report:42", "delete:42:0"]


async def test_an_upscaled_picture_can_only_be_looked_at_and_deleted() -> None:
    message = render(done(images=1, kind=JobKind.UPSCALE, parent_id=41, parent_index=2), {0: picture(256)})

    assert "Picture 3, upscaled" in text(message)
    assert "step" not in text(message)
    assert rows(message) == [["Info", "Report", "Delete"]]


async def test_a_variation_names_its_origin_and_strength() -> None:
    options = JobOptions(prompt="a red apple", strength=0.6)
    message = render(JobSnapshot(job(kind=JobKind.VARIATION, parent_id=41, parent_index=1, options=options)))

    assert "Variation of picture 2 · strength 60 %" in text(message)


async def test_a_failed_job_says_why_and_offers_another_try() -> None:
    message = render(JobSnapshot(job(state=JobState.FAILED, error="The engine ran out of memory.")))

    assert "The engine ran out of memory." in text(message)
    assert rows(message) == [["Try again", "Delete"]]


async def test_a_cancelled_job_offers_another_try() -> None:
    message = render(JobSnapshot(job(state=JobState.CANCELLED)))

    assert "Cancelled." in text(message)
    assert rows(message) == [["Try again", "Delete"]]


async def test_pictures_that_are_gone_leave_no_buttons_that_need_them() -> None:
    message = render(JobSnapshot(done().job))

    assert "The pictures of this job are gone." in text(message)
    assert rows(message) == [["Reroll", "Info", "Delete"]]


async def test_every_state_has_its_own_look() -> None:
    assert {accent(render(JobSnapshot(job(state=state)))) for state in JobState} == set(ACCENTS.values())


@pytest.mark.parametrize("prompt", ["@everyone <@1> `x` **y**\n# z" * 30, "🍎" * 1000, "*" * 1000, "\\" * 1000])
async def test_any_prompt_fits_and_means_nothing_to_markdown(prompt: str) -> None:
    options = JobOptions(prompt=prompt, images=4)
    message = render(done(options=options), FOUR)

    assert len(text(message)) <= 4000
    assert "\n#" not in text(message).replace("\n-#", "")
    assert "@everyone" not in text(message)
    assert all(0 < len(item["description"]) <= 256 for item in gallery(message))
    assert all(file.filename.isascii() for file in message.files)


async def test_what_is_sent_stays_within_discords_limits() -> None:
    message = render(done(), FOUR)

    assert message.view.total_children_count <= 40
    assert isinstance(message.view, discord.ui.LayoutView)
    assert message.view.timeout is None  # so that discord.py forgets the view, not its buttons
    assert all(isinstance(file.fp, io.BytesIO) for file in message.files)


def test_a_finished_message_covers_what_is_spoilered_and_says_what_it_does_not_show() -> None:
    kept = [(Showing.SPOILER, None), (Showing.HELD, None), (Showing.REMOVED, "It *was* removed."), (Showing.HELD, None)]
    snapshot = done()
    images = [replace(i, showing=s, note=n) for i, (s, n) in zip(snapshot.images, kept, strict=True)]
    message = render(replace(snapshot, images=tuple(images)), {0: picture()})

    assert [item["spoiler"] for item in gallery(message)] == [True]
    assert "Pictures 2, 4 wait for a moderator." in text(message)
    assert r"Picture 3: It \*was\* removed." in text(message)
    assert rows(message)[:2] == [["U1"], ["V1"]]


def test_of_a_job_that_shows_nothing_nothing_more_can_be_made() -> None:
    snapshot = done(images=1)
    held = replace(snapshot, images=(replace(snapshot.images[0], showing=Showing.HELD),))
    message = render(held)

    assert "The picture waits for a moderator." in text(message)
    assert message.files == []
    assert rows(message) == [["Info", "Delete"]]
