"""From a member's report to the moderators' decision and back, through the real bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Json, Member, Refused, Settled, is_private, labels, text_of, walk

pytestmark = pytest.mark.asyncio(loop_scope="session")


def latest(member: Member, words: str) -> list[Json]:
    """Messages with these words that the member sees, in their newest form."""
    now: dict[str, Json] = {}
    for op, data in member.seen:
        if op in ("message_create", "message_update"):
            now[data["id"]] = data
        elif op == "message_delete":
            now.pop(data["id"], None)
    return [message for message in now.values() if words in text_of(message)]


async def reads(member: Member, words: str) -> Json:
    """Until there is a message with these words."""
    return await member.until(lambda: next(iter(latest(member, words)), None))


async def fills(member: Member, interaction_id: str, **fields: str) -> str:
    """Fill in the form that was opened; the id of what follows. Raises Refused where a note came instead."""

    def opened() -> Json | str | None:
        for op, data in member.seen:
            if op == "modal" and data["interaction_id"] == interaction_id:
                return dict(data)
            if op == "message_create" and (data.get("interaction_metadata") or {}).get("id") == interaction_id:
                return text_of(data)
        return None

    form = await member.until(opened)
    if isinstance(form, str):
        raise Refused(form)
    known = {
        c["custom_id"]: c.get("value", "") for part in form["components"] if "custom_id" in (c := part["component"])
    }
    sent = await member.act("modal", interaction_id=interaction_id, custom_id=form["custom_id"], fields=known | fields)
    return str(sent["interaction_id"])


async def answered(member: Member, interaction_id: str) -> str:
    """What the bot says in answer, once it is no longer thinking."""

    def answer() -> str | None:
        for op, data in reversed(member.seen):
            if op.startswith("message_") and (data.get("interaction_metadata") or {}).get("id") == interaction_id:
                return text_of(data) or None
        return None

    return await member.until(answer)


@dataclass
class Bench:
    """The studio with a review channel."""

    studio: Studio

    async def drawn(self, member: Member, **options: object) -> Settled:
        return await member.draws(prompt=f"a red apple of {member.id}", steps=1, **options)

    async def reported(self, by: Member, result: Settled, reason: str) -> Json:
        """The case in the review channel that tells the reason."""
        said = await answered(by, await fills(by, await by.clicks(result.message, "Report"), reason=reason))
        assert said.startswith("Thank you")
        return await reads(self.studio.mod, reason)

    async def decided(self, member: Member, case: Json, label: str, **fields: str) -> Json:
        """Press the button, fill in its form, and wait until the message of the case says so."""
        await fills(member, await member.clicks(case, label), **fields)
        return await self.closed(case)

    async def closed(self, case: Json) -> Json:
        mod = self.studio.mod
        number = text_of(case).splitlines()[0]
        decided = ([], ["Take back"])
        return await mod.until(lambda: next((m for m in latest(mod, number) if labels(m) in decided), None))


@pytest_asyncio.fixture(loop_scope="session")
async def bench(studio: Studio) -> AsyncIterator[Bench]:
    channel = next(str(c.id) for c in studio.sandbox.world.guild.channels.values() if c.name == "mod-log")
    await studio.admin.types("moderation", "channel", channel=channel)
    yield Bench(studio)
    await studio.admin.types("moderation", "channel")


async def test_a_reported_picture_is_removed_and_comes_back_by_an_appeal(bench: Bench) -> None:
    alice, bob, mod, admin = bench.studio.alice, bench.studio.bob, bench.studio.mod, bench.studio.admin
    result = await bench.drawn(alice, images=2)

    case = await bench.reported(bob, result, "too grim for this place")

    assert labels(case) == ["Approve", "Spoiler", "Remove", "Remove + time out", "Remove + ban", "Look"]
    assert "Prompt: ||a red apple" in text_of(case)
    assert "no earlier ones" in text_of(case)
    (gallery,) = (component for component in walk(case) if component["type"] == 12)
    assert [item["spoiler"] for item in gallery["items"]] == [True, True]
    assert len(case["mentions"]) == 0

    await bench.decided(mod, case, "Remove + time out", note="not here", span="2 h")

    removed = await alice.until(
        lambda: next((m for m in latest(alice, "not here") if m["id"] == result.message["id"]), None)
    )
    assert "Appeal" in labels(removed)
    assert not [component for component in walk(removed) if component["type"] == 12]
    told = await reads(alice, "You may appeal once")
    assert told["channel_id"] != result.message["channel_id"]
    refused = await alice.types("imagine", prompt="another one")
    assert is_private(refused)
    assert text_of(refused).startswith("You may not draw in this server until")

    said = await answered(alice, await fills(alice, await alice.clicks(told, "Appeal"), reason="it is only an apple"))
    assert said.startswith("Moderators look at it again")
    again = await alice.presses(told, "Appeal")
    assert again is not None
    assert text_of(again).startswith("One decision is looked at again once")
    appeal = await reads(mod, "it is only an apple")
    assert labels(appeal) == ["Take it back", "Show as spoiler", "Keep the decision", "Look"]
    with pytest.raises(Refused, match="You made the first decision"):
        await fills(mod, await mod.clicks(appeal, "Keep the decision"))
    await bench.decided(admin, appeal, "Take it back", note="right you are")

    def restored() -> Json | None:
        mine = (m for m in latest(alice, "a red apple") if m["id"] == result.message["id"])
        return next((m for m in mine if "Appeal" not in labels(m)), None)

    back = await alice.until(restored)
    assert len(Settled(back, []).pictures) == 2
    await reads(alice, "taken the decision back: right you are")
    assert len((await bench.drawn(alice, images=1)).pictures) == 1


async def test_of_two_moderators_at_once_one_decides(bench: Bench) -> None:
    alice, bob, mod, admin = bench.studio.alice, bench.studio.bob, bench.studio.mod, bench.studio.admin
    result = await bench.drawn(bob, images=1)
    case = await bench.reported(alice, result, "two see this")

    pressed = await asyncio.gather(mod.clicks(case, "Approve"), admin.clicks(case, "Spoiler"))
    outcome = text_of(await bench.closed(case))

    loser, interaction_id = (admin, pressed[1]) if "Approved" in outcome else (mod, pressed[0])
    assert "has decided this case" in await answered(loser, interaction_id)


async def test_nobody_decides_over_people_above_them_or_without_being_a_moderator(bench: Bench) -> None:
    bob, mod, admin = bench.studio.bob, bench.studio.mod, bench.studio.admin
    result = await bench.drawn(admin, images=1)
    case = await bench.reported(bob, result, "the boss drew this")

    with pytest.raises(Refused, match="owner of this server"):
        await fills(mod, await mod.clicks(case, "Remove + ban"))
    with pytest.raises(Refused, match="about yourself"):
        await fills(admin, await admin.clicks(case, "Remove"))
    assert text_of(await mod.types("restrict", user=admin.id, reason="no")).startswith("That is the owner")
    with pytest.raises(Refused, match="You may not use /review here"):
        await bob.types("review", "list")

    listed = await mod.types("review", "list")
    assert is_private(listed)
    number = text_of(case).splitlines()[0].split()[2]
    assert f"**Case {number}**" in text_of(listed)
    removed = await bench.decided(mod, case, "Remove", note="sorry")
    await fills(mod, await mod.clicks(removed, "Take back"), note="the boss is right")
    undone = await reads(mod, "> the boss is right")
    assert "Taken back** by" in text_of(undone)
    assert labels(undone) == []
    await reads(admin, "taken the decision back: the boss is right")


async def test_a_moderator_takes_and_gives_the_right_to_draw(bench: Bench) -> None:
    bob, mod = bench.studio.bob, bench.studio.mod
    taken = await mod.types("restrict", user=bob.id, reason="too many cats", **{"for": "3 days"})
    assert is_private(taken)
    assert text_of(taken).startswith(f"<@{bob.id}> may not draw here until")
    refused = await bob.types("imagine", prompt="a cat")
    assert text_of(refused).endswith(": too many cats")

    shorter = await mod.types("restrict", user=bob.id, reason="no", **{"for": "1 h"})
    assert text_of(shorter).endswith("That was decided before and lasts longer.")
    assert "may draw here again" in text_of(await mod.types("unrestrict", user=bob.id))
    assert "was never stopped" in text_of(await mod.types("unrestrict", user=bob.id))
    assert len((await bench.drawn(bob, images=1)).pictures) == 1


async def test_a_picture_is_reported_from_the_menu_of_its_message(bench: Bench) -> None:
    alice, bob = bench.studio.alice, bench.studio.bob
    result = await bench.drawn(bob, images=4)
    chosen = await alice.act("menu", message_id=result.message["id"], command="Report picture")

    said = await answered(alice, await fills(alice, chosen["interaction_id"], reason="only this one", picture="2"))

    assert said == "Thank you: the moderators of this server look at it."
    case = await reads(bench.studio.mod, "only this one")
    assert "picture 3" in text_of(case)
    assert "Report" not in labels(case)
    with pytest.raises(Refused, match="Only pictures that I drew"):
        said_by_bob = await bob.act("message", channel_id=result.message["channel_id"], content="mine")
        chosen = await alice.act("menu", message_id=said_by_bob["message_id"], command="Report picture")
        await fills(alice, chosen["interaction_id"])


async def test_without_the_review_channel_cases_are_decided_from_the_list(bench: Bench) -> None:
    alice, bob, mod = bench.studio.alice, bench.studio.bob, bench.studio.mod
    await bench.studio.admin.types("moderation", "channel")
    result = await bench.drawn(bob, images=1)
    await answered(alice, await fills(alice, await alice.clicks(result.message, "Report"), reason="from the list"))
    listed = await mod.types("review", "list")
    newest = [component for component in walk(listed) if component.get("label") == "Open"][-1]
    opened = await mod.act("component", message_id=listed["id"], custom_id=newest["custom_id"])
    assert "from the list" in await answered(mod, opened["interaction_id"])
    (card,) = latest(mod, "from the list")
    assert is_private(card)

    looked = await answered(mod, await mod.clicks(card, "Look"))
    (shown,) = (item for message in latest(mod, looked) for part in walk(message) for item in part.get("items", []))
    assert shown["spoiler"]
    assert await mod.presses(card, "Spoiler") is None

    await mod.until(lambda: next((m for m in latest(mod, "Put behind a spoiler") if m["id"] == card["id"]), None))

    def is_covered() -> bool:
        mine = (m for op, m in reversed(bob.seen) if op.startswith("message_") and m["id"] == result.message["id"])
        return [item["spoiler"] for item in Settled(next(mine), []).pictures] == [True]

    await bob.until(is_covered)
