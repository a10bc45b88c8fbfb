"""The message of a case: what it tells, what it covers, and that Discord takes it whatever people wrote."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bot.moderation.cases import Case, CaseKind, CaseState, Decision
from bot.moderation.docket import CaseFile, Report
from bot.moderation.reports import Record
from bot.prompt.options import JobOptions
from bot.views import cases
from tests.bot.views.examples import ASKED, done, job, picture

CASE = Case(
    id=12,
    kind=CaseKind.REPORT,
    state=CaseState.OPEN,
    guild_id=3001,
    job_id=42,
    index=1,
    user_id=1001,
    reason="Reported by members.",
    score=0.25,
    appeal_of=None,
    opened_at=ASKED,
    decision=None,
    decided_by=None,
    decided_at=None,
    note=None,
    channel_id=None,
    posting_at=None,
    message_id=None,
    revision=0,
    before={},
)
DECIDED = replace(
    CASE, state=CaseState.DECIDED, decision=Decision.REMOVE, decided_by=50, decided_at=ASKED + timedelta(hours=1)
)
NASTY = st.text(alphabet="|*_`\\@#<>[]()~ \n\u200bévery", min_size=0, max_size=1000)


def file(case: Case = CASE, **changes: Any) -> CaseFile:
    report = Report(7, "too dark", Record(decided=5, unfounded=2))
    images = done().images[1:2]
    whole = CaseFile(
        case=case, job=job(), parent=None, children=(), images=images, reports=(report,), appealed=None, appeal=None
    )
    return replace(whole, **changes)


def told(file: CaseFile, originals: tuple[bytes, ...] = ()) -> tuple[str, list[str]]:
    """The text of the message, and what its buttons say."""
    nodes = list(_walk(cases.render(file, originals).view.to_components()))
    shown = "\n".join(node["content"] for node in nodes if "content" in node)
    return shown, [node["label"] for node in nodes if node["type"] == 2]


def _walk(components: list[Any]) -> Any:
    for component in components:
        yield component
        yield from _walk(component.get("components", []))


async def test_a_case_tells_who_reported_what_and_how_reliable_they_were() -> None:
    text, labels = told(file(parent=job(id=41, user_id=5), children=(job(id=43), job(id=44))), (picture(),))

    assert (
        "by <@1001> · [job 42](https://discord.com/channels/3001/2001/4001) · <#2001> · picture 2 · score 0.25" in text
    )
    assert "Prompt: ||a red apple||" in text
    assert "- <@7>: too dark (2 of 5 earlier unfounded)" in text
    assert "made from [job 41]" in text
    assert "made of it: [job 43](https://discord.com/channels/3001/2001/4001), [job 44]" in text
    assert labels == ["Approve", "Spoiler", "Remove", "Remove + time out", "Remove + ban", "Look"]


async def test_a_decided_case_says_who_decided_and_shows_neither_picture_nor_button() -> None:
    text, labels = told(file(replace(DECIDED, note="no")), (picture(),))

    assert "Removed** by <@50> · <t:1777640400:f>\n> no" in text
    assert labels == ["Take back"]
    assert cases.render(file(DECIDED), (picture(),)).files == []


async def test_a_second_look_is_told_where_the_first_decision_stands() -> None:
    appeal = replace(CASE, id=13, kind=CaseKind.APPEAL, appeal_of=12)
    open_appeal, taken_back = appeal, replace(DECIDED, kind=CaseKind.APPEAL, decision=Decision.APPROVE, decided_by=51)

    assert told(file(DECIDED, appeal=open_appeal)) == (told(file(DECIDED))[0] + "\n-# looked at again in case 13", [])
    assert "Taken back** by <@51>" in told(file(DECIDED, appeal=taken_back))[0]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (CaseKind.PROMPT, ["Draw it", "Refuse", "Refuse + time out", "Refuse + ban"]),
        (CaseKind.APPEAL, ["Take it back", "Show as spoiler", "Keep the decision"]),
    ],
)
async def test_buttons_say_what_they_do_to_this_kind(kind: CaseKind, labels: list[str]) -> None:
    assert told(file(replace(CASE, kind=kind)))[1] == labels


@settings(deadline=None, max_examples=50)
@given(NASTY, NASTY, NASTY, st.sampled_from(CaseKind), st.sampled_from([CASE, DECIDED]))
@example("|" * 1000, "*" * 1000, "_" * 1000, CaseKind.PICTURE, DECIDED)
async def test_discord_takes_it_whatever_people_wrote(
    prompt: str, reason: str, note: str, kind: CaseKind, case: Case
) -> None:
    nasty = replace(case, kind=kind, reason=reason, note=note, index=None)
    reports = tuple(Report(2**63 - n, reason, Record(999, 999)) for n in range(20))
    whole = file(
        nasty,
        job=job(options=JobOptions(prompt=prompt, negative_prompt=prompt)),
        parent=job(),
        children=tuple(job(id=2**60, guild_id=2**63, channel_id=2**63, message_id=2**63) for _ in range(5)),
        reports=reports,
        appealed=replace(DECIDED, note=note),
        appeal=replace(DECIDED, note=note),
    )

    text, _ = told(whole)

    assert len(text) <= 4000
    covered = re.search(r"^Prompt: \|\|(.*)\|\|$", text, re.MULTILINE)
    assert covered is not None
    assert "||" not in covered[1]


async def test_what_is_blurred_shows_no_detail() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")

    shown = np.asarray(Image.open(io.BytesIO(cases.blurred(out.getvalue()))).convert("L"), np.float64)

    assert shown.shape == (256, 256)
    assert shown.std() < noise.std() / 8
