"""Checkpoints changed while the bot runs: each change is whole or has never been, and says so."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from bot.sandbox.permissions import Permission
from bot.sandbox.server import Sandbox
from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Bot, Json, Member, is_private, labels, people, text_of, walk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def elsewhere(checkpoints_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints outside of the bot's folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("second", "third"):
        shutil.copytree(checkpoints_dir / "tiny", folder / name)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(
    tmp_path_factory: pytest.TempPathFactory, checkpoints_dir: Path, settings: dict[str, str]
) -> AsyncIterator[Studio]:
    """A studio with a folder of checkpoints of its own, whose moderator manages the server too."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(checkpoints_dir / "tiny", root / "checkpoints" / "tiny")
    async with Sandbox(rate_limits=False) as sandbox, people(sandbox, "alice", "bob", "mod", "admin") as members:
        for role in sandbox.world.guild.roles.values():
            if role.name == "Moderator":
                role.permissions |= Permission.MANAGE_GUILD
        bot = Bot(sandbox, root / "data", settings | {"IMAGINE_CHECKPOINTS_DIR": str(root / "checkpoints")})
        await bot.start()
        try:
            await members[0].online()
            await bot.says("The image engine is ready")
            yield Studio(sandbox, bot, *members)
        finally:
            await bot.stop()


def folder_of(lab: Studio) -> Path:
    return lab.bot.data_dir.parent / "checkpoints"


@contextmanager
def engine_asleep(lab: Studio) -> Iterator[None]:
    """Whatever is begun meanwhile cannot end."""
    worker = lab.bot.engine()
    worker.suspend()
    yield
    with suppress(psutil.NoSuchProcess):
        worker.resume()


def last_words(member: Member, message: Json) -> str:
    return text_of([d for op, d in member.seen if op.startswith("message_") and d["id"] == message["id"]][-1])


async def ended(member: Member, message: Json) -> Json:
    """A change's message, once it is not to be called off any more."""
    seen = [data for op, data in member.seen if op.startswith("message_") and data["id"] == message["id"]]
    if "Cancel" not in labels(seen[-1]):
        return seen[-1]
    return (await member.settles(message)).message


async def change(member: Member, subcommand: str, **options: str) -> Json:
    return await ended(member, await member.types("checkpoint", subcommand, **options))


def pictures(message: Json) -> list[Json]:
    return [item for component in walk(message) for item in component.get("items", [])]


async def in_use(lab: Studio) -> str:
    listed = text_of(await lab.bob.types("checkpoint", "list"))
    return next(line for line in listed.splitlines() if "in use here" in line).split("**")[1]


async def test_a_checkpoint_is_added_tried_used_and_rolled_back(lab: Studio, elsewhere: Path) -> None:
    added = await change(lab.admin, "add", source=str(elsewhere / "second"))
    assert "**second** is here" in text_of(added) and labels(added) == ["Use it here", "Info"]

    used = await lab.admin.presses(added, "Use it here")
    assert used is not None
    used = await ended(lab.admin, used)
    assert "This server draws with **second**." in text_of(used)
    assert "every file checked" in text_of(used) and len(pictures(used)) == 1
    assert await in_use(lab) == "second"
    assert "· second ·" in (await lab.alice.draws(prompt="an apple", images=1)).text

    refused = await lab.bob.presses(used, "Roll back")
    assert refused is not None and is_private(refused)
    assert text_of(refused) == "You need the permission Manage Server for that."
    back = await lab.mod.presses(used, "Roll back")
    assert back is not None
    assert "This server draws with **tiny** again." in text_of(await ended(lab.mod, back))
    stale = await lab.admin.presses(used, "Roll back")
    assert stale is not None and "Something else was chosen since" in text_of(stale)
    assert await in_use(lab) == "tiny"


async def test_members_change_nothing(lab: Studio) -> None:
    for subcommand, options in {
        "use": {"name": "tiny"},
        "rollback": {},
        "reload": {"name": "tiny"},
        "add": {"source": "org/name"},
        "remove": {"name": "second"},
        "allow": {"name": "second"},
        "forbid": {"name": "second"},
    }.items():
        answer = await lab.bob.types("checkpoint", subcommand, **options)
        assert is_private(answer)
        assert text_of(answer) == "You need the permission Manage Server for that."
    assert text_of(await lab.bob.types("lora", "add", source="org/name")).startswith("You need the permission")
    assert await in_use(lab) == "tiny"


async def test_whom_the_servers_settings_name_for_the_command_manages_too(lab: Studio) -> None:
    everyone = {"id": str(lab.sandbox.world.guild.id), "type": 1, "permission": True}
    lab.sandbox.commands.name_allowed("checkpoint", [everyone])
    assert text_of(await lab.bob.types("checkpoint", "forbid", name="tiny")).startswith("You need the permission")
    lab.sandbox.commands.name_allowed("checkpoint", [everyone, {"id": lab.bob.id, "type": 2, "permission": True}])
    assert "draws with tiny itself" in text_of(await lab.bob.types("checkpoint", "forbid", name="tiny"))
    assert text_of(await lab.alice.types("checkpoint", "forbid", name="tiny")).startswith("You need the permission")
    lab.sandbox.commands.name_allowed("checkpoint", [{"id": lab.bob.id, "type": 2, "permission": False}])
    assert text_of(await lab.bob.types("checkpoint", "forbid", name="tiny")).startswith("You need the permission")


async def test_a_checkpoint_for_a_while_ends_with_a_rollback(lab: Studio) -> None:
    assert "Say how long" in text_of(await lab.admin.types("checkpoint", "use", name="second", until="soon"))
    used = await change(lab.admin, "use", name="second", until="2 h")
    assert "This server draws with **second** until <t:" in text_of(used)
    listed = text_of(await lab.bob.types("checkpoint", "list"))
    assert "**second** ends <t:" in listed and "then **tiny** draws here." in listed
    assert "draws with **tiny** again" in text_of(await change(lab.admin, "rollback"))
    assert await in_use(lab) == "tiny"


async def test_two_admins_at_once_come_one_after_the_other_and_both_are_told(lab: Studio) -> None:
    with engine_asleep(lab):
        first = await lab.admin.types("checkpoint", "reload", name="tiny")
        second = await lab.mod.types("checkpoint", "use", name="second")
        third = await lab.admin.types("checkpoint", "use", name="tiny")
        await lab.admin.until(lambda: "is at it" in last_words(lab.admin, third) or None)
    ends = [await ended(lab.admin, message) for message in (first, second, third)]
    assert "was read anew" in text_of(ends[0])
    assert "draws with **second**." in text_of(ends[1]) and "draws with **tiny**." in text_of(ends[2])
    edits = [(data["id"], text_of(data)) for op, data in lab.admin.seen if op.startswith("message_")]
    assert any(i == third["id"] and f"<@{lab.admin.id}> is at it" in words for i, words in edits)
    assert any(i == first["id"] and "asked for a change meanwhile" in words for i, words in edits)
    assert await in_use(lab) == "tiny"


async def test_jobs_keep_the_checkpoint_that_they_were_queued_with(lab: Studio) -> None:
    jobs = [
        await lab.alice.types("imagine", prompt="a tree", images=1, steps=20, checkpoint=name)
        for name in ("tiny", "second", "tiny", "second")
    ]
    used = await lab.admin.types("checkpoint", "use", name="second")
    for message, name in zip(jobs, ("tiny", "second", "tiny", "second"), strict=True):
        assert f"· {name} ·" in (await lab.alice.settles(message)).text
    await ended(lab.admin, used)
    assert "draws with **tiny** again" in text_of(await change(lab.admin, "rollback"))


async def test_damaged_checkpoints_are_refused_with_the_reason_and_nothing_changes(
    lab: Studio, elsewhere: Path
) -> None:
    truncated, swapped = folder_of(lab) / "truncated", folder_of(lab) / "swapped"
    for folder in (truncated, swapped):
        shutil.copytree(elsewhere / "third", folder)
        assert f"**{folder.name}** is here" in text_of(await change(lab.admin, "add", source=folder.name))
    weights = next((truncated / "base").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-9])
    other = bytearray((swapped / "base" / weights.name).read_bytes())
    other[-1] ^= 1
    (swapped / "base" / weights.name).write_bytes(other)
    (folder_of(lab) / "renamed.safetensors").write_bytes(b"\x80\x02}q\x00X\x05\x00\x00\x00")
    shutil.copytree(elsewhere / "third", folder_of(lab) / "foreign")
    index = folder_of(lab) / "foreign" / "model_index.json"
    index.write_text(index.read_text().replace("CascadePipeline", "StableDiffusionPipeline"))

    for name, reason in (("truncated", "is truncated"), ("swapped", "is not the file that was saved")):
        failed = text_of(await change(lab.admin, "use", name=name))
        assert reason in failed and "This server draws with **tiny** as before." in failed
        assert await in_use(lab) == "tiny"
    for name, reason in (("renamed", "is a pickle"), ("foreign", "is incomplete")):
        refused = text_of(await change(lab.admin, "add", source=name))
        assert reason in refused and "Nothing was changed." in refused
        failed = text_of(await change(lab.admin, "use", name=name))
        assert reason in failed and "This server draws with **tiny** as before." in failed
        assert reason in text_of(await lab.alice.types("imagine", prompt="a boat", checkpoint=name))
    assert "· tiny ·" in (await lab.alice.draws(prompt="an apple", images=1)).text
    for name in ("truncated", "swapped", "foreign"):
        shutil.rmtree(folder_of(lab) / name)
    (folder_of(lab) / "renamed.safetensors").unlink()


async def test_a_source_that_cannot_be_reached_is_one_sentence(lab: Studio) -> None:
    answer = text_of(await change(lab.mod, "add", source="/etc/passwd"))
    assert "is neither the name of something in the folder of checkpoints nor a hub id" in answer
    answer = text_of(await change(lab.mod, "add", source="org/nothing"))
    assert "the hub cannot be reached" in answer and "Nothing was changed." in answer


async def test_the_card_shows_samples_that_are_drawn_once(lab: Studio) -> None:
    card = await lab.admin.types("checkpoint", "info", name="tiny")
    assert is_private(card) and "Its samples are being drawn" in text_of(card)
    drawn = await lab.admin.until(
        lambda: next(
            (d for op, d in lab.admin.seen if op == "message_update" and d["id"] == card["id"] and pictures(d)), None
        )
    )
    for words in ("**Family:** cascade", "**Draws:** 16 and 64 px", "on this machine", "MB in memory", "upscaling (U)"):
        assert words in text_of(drawn)
    assert pictures(await lab.bob.types("checkpoint", "info", name="tiny"))


async def test_a_server_offers_what_its_managers_allow(lab: Studio) -> None:
    assert "draws with tiny itself" in text_of(await lab.admin.types("checkpoint", "forbid", name="tiny"))
    assert "second" not in text_of(await lab.admin.types("checkpoint", "forbid", name="second"))
    refused = await lab.alice.types("imagine", prompt="a boat", checkpoint="second")
    assert text_of(refused).startswith("second does not draw in this server.")
    assert "second" in text_of(await lab.admin.types("checkpoint", "allow", name="second"))
    assert "every checkpoint" in text_of(await lab.admin.types("checkpoint", "allow", name="everything"))


async def test_what_somebody_uses_is_not_removed_and_what_nobody_uses_is(lab: Studio, elsewhere: Path) -> None:
    assert "so it stays" in text_of(await lab.admin.types("checkpoint", "remove", name="tiny"))
    await change(lab.admin, "add", source=str(elsewhere / "third"), name="spare")
    asked = await lab.admin.types("checkpoint", "remove", name="spare")
    refused = await lab.bob.presses(asked, "Delete")
    assert refused is not None and is_private(refused)
    await lab.admin.clicks(asked, "Delete")
    gone = await lab.admin.until(
        lambda: next(
            (d for op, d in lab.admin.seen if op == "message_update" and "is deleted" in text_of(d)),
            None,
        )
    )
    assert gone["id"] == asked["id"] and not (folder_of(lab) / "spare").exists()
    assert "There is no checkpoint named" in text_of(await lab.admin.types("checkpoint", "use", name="spare"))


async def test_a_kill_in_the_middle_of_a_switch_leaves_the_old_checkpoint(lab: Studio) -> None:
    with engine_asleep(lab):
        switching = await lab.admin.types("checkpoint", "use", name="second")
        await lab.bot.kill()
    await lab.bot.start()
    told = await ended(lab.admin, switching)
    assert "was cut off when the bot stopped. Nothing was changed" in text_of(told)
    await lab.bot.says("The image engine is ready")
    assert await in_use(lab) == "tiny"
    assert "· tiny ·" in (await lab.alice.draws(prompt="an apple", images=1)).text
