"""What is left of somebody who was erased, what an export holds, and what is deleted after its time."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest
from sqlalchemy import select, update

from bot.errors import TooLarge
from bot.jobs.decided import set_showing
from bot.jobs.erasing import Deletions
from bot.jobs.model import Job, Showing, StoredImage
from bot.jobs.queue import JobQueue
from bot.jobs.sweeping import sweep
from bot.moderation import audit, cases
from bot.moderation.audit import Deed
from bot.moderation.audit_log import AuditLog, Wanted
from bot.moderation.cases import CaseKind, CaseState, Decision
from bot.moderation.export import Export
from bot.moderation.privacy import FORGOTTEN, Privacy
from bot.moderation.restrictions import Restriction, Restrictions
from bot.moderation.retention import Retention
from bot.moderation.servers import Servers
from bot.storage import tables
from bot.storage.images import ImageStore
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE
from tests.bot.jobs.conftest import new_job

ALICE, BOB, MOD = 111_111, 222_222, 333_333
GUILD, OTHER_GUILD = 900, 901
SECRET = "a very private unicorn"


class Refusing:
    """Discord as `Deletions` knows it: refuses what a test says, and remembers what it deleted."""

    def __init__(self, **refusals: Exception) -> None:
        self.refusals = {int(name.removeprefix("m")): error for name, error in refusals.items()}
        self.deleted: list[tuple[int, int]] = []
        self.http = self

    async def delete_message(self, channel_id: int, message_id: int) -> None:
        if message_id in self.refusals:
            raise self.refusals[message_id]
        self.deleted.append((channel_id, message_id))


def refusal(kind: type[discord.HTTPException], status: int) -> discord.HTTPException:
    return kind(SimpleNamespace(status=status, reason="no"), "no")  # type: ignore[arg-type]


class House:
    """A database, a folder of pictures, and people who draw."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self.database, self.images = database, images
        self.queue = JobQueue(database, queued_per_user=1000)
        self.abandoned: list[int] = []
        self.discord = Refusing()
        self.deletions = Deletions(database, self.discord)  # type: ignore[arg-type]
        self.privacy = Privacy(database, images, abandon=self.abandoned.extend, deletions=self.deletions)
        self.retention = Retention(database, images)
        self.messages = 0

    async def asks(self, user_id: int = ALICE, *, guild_id: int | None = GUILD, prompt: str = SECRET) -> Job:
        job = await self.queue.submit(new_job(prompt, user_id=user_id, guild_id=guild_id, images=1), cost=1.0)
        self.messages += 1
        await self.queue.attach_message(job.id, self.messages)
        return job

    async def draws(self, user_id: int = ALICE, *, picture: bytes = b"picture", **asked: Any) -> Job:
        await self.asks(user_id, **asked)
        job = await self.queue.claim()
        assert job is not None
        names = [self.images.put(data) for data in (picture, picture + b" latents")]
        await self.queue.rendered(job, [StoredImage(job.id, 0, 1, 64, 64, *names)], seconds=1.0)
        rendered = await self.queue.get(job.id)
        await self.queue.shown(rendered)
        return await self.queue.get(job.id)

    async def rows(self, table: Any) -> list[dict[str, Any]]:
        async with self.database.read() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]

    async def traces(self, user_id: int) -> set[str]:
        """Tables that hold the user's id anywhere, or the secret prompt."""

        def about(value: object) -> bool:
            return value == user_id or str(user_id) in str(value) or SECRET in str(value)

        found = set()
        for table in tables.metadata.sorted_tables:
            for row in await self.rows(table):
                if any(about(value) for value in row.values()):
                    found.add(table.name)
        return found


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    database = Database(database_url)
    await database.upgrade()
    yield House(database, ImageStore(tmp_path / "images"))
    await database.close()


@EITHER_DATABASE
async def test_nothing_says_any_more_whose_it_was(house: House) -> None:
    drawn = await house.draws()
    kept = await house.draws(BOB, picture=b"other", prompt="a boat")
    await house.draws(guild_id=None, picture=b"private")
    waiting = await house.asks()
    servers, restrictions = Servers(house.database), Restrictions(house.database)
    await servers.change_terms(GUILD, ALICE, "Be kind.")
    await servers.accept_terms(GUILD, ALICE, 1)
    async with house.database.write() as connection:
        about = {"guild_id": GUILD, "user_id": ALICE, "reason": SECRET, "job_id": drawn.id}
        open_case = await cases.open_case(connection, CaseKind.PICTURE, **about)
        theirs = await cases.open_case(
            connection, CaseKind.REPORT, guild_id=GUILD, user_id=BOB, reason="", job_id=kept.id
        )
        decided = {"state": CaseState.DECIDED, "decided_by": ALICE, "decision": Decision.APPROVE}
        await connection.execute(update(tables.cases).where(tables.cases.c.id == theirs).values(**decided))
        now = datetime.now(UTC)
        report = {"case_id": theirs, "user_id": ALICE, "reason": SECRET, "reported_at": now}
        await connection.execute(tables.reports.insert().values(**report))
        notice = {"user_id": ALICE, "content": SECRET, "created_at": now}
        await connection.execute(tables.notices.insert().values(**notice))
        subject = await audit.person(connection, house.database, ALICE)
        await audit.append(connection, house.database, Deed(GUILD, MOD, "user.restrict", subject))
    await restrictions.impose(Restriction(GUILD, ALICE, None, "spam"), by=MOD)
    assert "jobs" in await house.traces(ALICE)

    assert await house.privacy.erase(ALICE) == 3

    # What stays on purpose: the day's GPU time, the ban that holds, and that there is something to end at midnight.
    assert await house.traces(ALICE) == {"charges", "restrictions", "erasures"}
    assert {row["job_id"] for row in await house.rows(tables.images)} == {kept.id}
    assert len(house.images.names()) == 2
    assert house.abandoned == [waiting.id]
    assert {row["message_id"] for row in await house.rows(tables.deletions)} == {1, 3, 4}
    (mine, others) = sorted(await house.rows(tables.cases), key=lambda case: case["id"])
    assert (mine["id"], mine["state"], mine["user_id"], mine["job_id"]) == (open_case, CaseState.VOID, FORGOTTEN, None)
    assert (others["decided_by"], others["shown_at"]) == (FORGOTTEN, None)
    check = await AuditLog(house.database).verify(GUILD)
    assert check.first_broken is None
    entries, _ = await AuditLog(house.database).search(Wanted(GUILD, person_id=ALICE), limit=10)
    assert entries == ()

    # The day's GPU time goes with the day.
    await house.retention.look(datetime.now(UTC))
    assert "charges" in await house.traces(ALICE)
    await house.retention.look(datetime.now(UTC) + timedelta(days=1))
    assert await house.traces(ALICE) == {"restrictions"}


async def test_erasing_once_more_or_drawing_afterwards_works(house: House) -> None:
    await house.draws()
    assert await house.privacy.erase(ALICE) == 1
    assert await house.privacy.erase(ALICE) == 0
    assert (await house.draws()).user_id == ALICE
    assert await house.privacy.erase(ALICE) == 1


async def test_a_message_that_arrives_after_the_erasure_belongs_to_nothing(house: House) -> None:
    job = await house.queue.submit(new_job(SECRET, user_id=ALICE), cost=1.0)
    other = await house.queue.submit(new_job(user_id=BOB), cost=1.0)
    await house.privacy.erase(ALICE)
    assert not await house.queue.attach_message(job.id, 7)
    assert await house.queue.attach_message(other.id, 8)


async def test_a_kill_before_the_files_went_leaves_them_to_the_next_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.draws()

    def killed(*names: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(house.images, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            await house.privacy.erase(ALICE)
    assert len(house.images.names()) == 2

    await sweep(house.queue, house.images)  # though the database knows of no picture at all

    assert house.images.names() == []
    assert [row["message_id"] for row in await house.rows(tables.deletions)] == [1]


async def test_a_purge_takes_one_persons_pictures_of_one_server(house: House) -> None:
    await house.draws(picture=b"1")
    elsewhere = await house.draws(picture=b"2", guild_id=OTHER_GUILD)
    others = await house.draws(BOB, picture=b"3")
    async with house.database.write() as connection:
        reported = {"guild_id": GUILD, "user_id": ALICE, "reason": "spam"}
        await cases.open_case(connection, CaseKind.REPORT, **reported, job_id=1)
        await connection.execute(update(tables.cases).values(shown_at=datetime.now(UTC)))

    assert await house.privacy.purge(GUILD, ALICE, by=MOD) == 1

    assert {row["id"] for row in await house.rows(tables.jobs)} == {elsewhere.id, others.id}
    entries, _ = await AuditLog(house.database).search(Wanted(GUILD), limit=10)
    assert [(entry.act, entry.actor_id, entry.subject_id, entry.after) for entry in entries] == [
        ("user.purge", MOD, ALICE, '{"jobs": 1}')
    ]
    (case,) = await house.rows(tables.cases)
    assert (case["state"], case["user_id"], case["reason"]) == (CaseState.VOID, ALICE, "spam")
    assert case["shown_at"] is None  # its message is to show neither prompt nor picture any more


async def test_messages_go_when_discord_lets_them_and_are_forgotten_when_it_never_will(house: House) -> None:
    for _ in range(4):
        await house.draws()
    await house.privacy.purge(GUILD, ALICE, by=MOD)
    forbidden, trouble = refusal(discord.Forbidden, 403), refusal(discord.DiscordServerError, 503)
    house.discord.refusals = {1: forbidden, 2: trouble, 3: OSError()}

    assert await house.deletions.delete_all()
    assert house.discord.deleted == [(500, 4)]
    assert [row["message_id"] for row in await house.rows(tables.deletions)] == [2, 3]

    house.discord.refusals = {}
    assert not await house.deletions.delete_all()
    assert house.discord.deleted == [(500, 4), (500, 2), (500, 3)]
    assert await house.rows(tables.deletions) == []


async def test_an_export_holds_everything_but_secrets_and_what_moderators_hold_back(house: House) -> None:
    shown = await house.draws(picture=b"shown")
    hidden = await house.draws(picture=b"hidden")
    await house.draws(BOB, picture=b"bob's")
    async with house.database.write() as connection:
        await set_showing(connection, hidden.id, 0, Showing.REMOVED)
        await audit.append(connection, house.database, Deed(GUILD, ALICE, "queue.close", "queue"))

    (archive,) = [data async for data in Export(house.database, house.images).zips(ALICE, limit=10**7)]

    assert "secret-" not in archive.decode("latin-1")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        names = set(files.namelist())
        assert {name for name in names if name.startswith("pictures/")} == {f"pictures/job-{shown.id}-1.png"}
        assert files.read(f"pictures/job-{shown.id}-1.png") == b"shown"
        told = {name: json.loads(files.read(name)) for name in names if name.endswith(".json")}
    assert [job["id"] for job in told["jobs.json"]] == [shown.id, hidden.id]
    assert told["jobs.json"][0]["options"]["prompt"] == SECRET
    assert "interaction_token" not in told["jobs.json"][0]
    assert len(told["pictures.json"]) == 2
    assert [entry["act"] for entry in told["audit log.json"]] == ["queue.close"]
    assert len(told["charges.json"]) == 2


async def test_a_large_export_comes_in_parts_that_discord_takes(house: House) -> None:
    for number in range(5):
        await house.draws(picture=bytes([number]) * 60_000)
    limit = 200_000

    export = Export(house.database, house.images)
    archives = [data async for data in export.zips(ALICE, limit=limit)]

    assert len(archives) > 1
    assert all(len(archive) <= limit for archive in archives)
    found = [name for archive in archives for name in zipfile.ZipFile(io.BytesIO(archive)).namelist()]
    assert len([name for name in found if name.startswith("pictures/")]) == 5
    assert found.count("jobs.json") == 1
    with pytest.raises(TooLarge, match="more about you than one file"):
        [data async for data in export.zips(ALICE, limit=10_000)]
    recent = [data async for data in export.zips(ALICE, limit=limit, since=datetime.now(UTC) + timedelta(hours=1))]
    assert len(recent) == 1


@EITHER_DATABASE
async def test_a_server_keeps_prompts_and_pictures_for_the_days_that_it_set(house: House) -> None:
    await Servers(house.database).change(GUILD, MOD, "settings.retention", retention_days=30)
    await house.draws(picture=b"1")
    disputed = await house.draws(picture=b"2")
    elsewhere = await house.draws(picture=b"3", guild_id=OTHER_GUILD)
    waiting = await house.asks()
    async with house.database.write() as connection:
        await cases.open_case(connection, CaseKind.REPORT, guild_id=GUILD, user_id=ALICE, reason="", job_id=disputed.id)
    now = datetime.now(UTC)

    await house.retention.look(now + timedelta(days=29))
    assert len(await house.rows(tables.jobs)) == 4
    await house.retention.look(now + timedelta(days=31))

    assert {row["id"] for row in await house.rows(tables.jobs)} == {disputed.id, waiting.id, elsewhere.id}
    assert len(house.images.names()) == 4
    assert await house.rows(tables.deletions) == []  # messages are the server's


async def test_elsewhere_the_operator_says_how_long_things_are_kept(house: House) -> None:
    await Servers(house.database).change(GUILD, MOD, "settings.retention", retention_days=30)
    kept = await house.draws(picture=b"1")
    await house.draws(picture=b"2", guild_id=OTHER_GUILD)
    await house.draws(picture=b"3", guild_id=None)

    await Retention(house.database, house.images, 7).look(datetime.now(UTC) + timedelta(days=8))

    assert {row["id"] for row in await house.rows(tables.jobs)} == {kept.id}


async def test_a_removed_picture_is_kept_until_nobody_can_appeal_any_more(house: House) -> None:
    removed = await house.draws(picture=b"removed")
    same = await house.draws(BOB, picture=b"shared")
    twin = await house.draws(picture=b"shared")
    now = datetime.now(UTC)
    async with house.database.write() as connection:
        for job in (removed, twin):
            case_id = await cases.open_case(
                connection, CaseKind.REPORT, guild_id=GUILD, user_id=ALICE, reason="", job_id=job.id, index=0
            )
            decided = {"state": CaseState.DECIDED, "decision": Decision.REMOVE, "decided_at": now + timedelta(days=2)}
            await connection.execute(update(tables.cases).where(tables.cases.c.id == case_id).values(**decided))
            await set_showing(connection, job.id, 0, Showing.REMOVED, note="no")

    await house.retention.look(now + timedelta(days=8))
    assert len(house.images.names()) == 4
    await house.retention.look(now + timedelta(days=10))

    (shown,) = await house.queue.images(same.id)
    assert sorted(house.images.names()) == sorted([shown.sha256, shown.latents_sha256])
    (emptied,) = await house.queue.images(removed.id)
    assert (emptied.showing, emptied.note, emptied.sha256) == (Showing.REMOVED, "no", "")
    assert await house.queue.delete_images(removed.id) == set()
