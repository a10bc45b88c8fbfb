"""Reports, decisions and appeals in the database: each decided once, with everything that follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from bot.errors import AppealRefused, CaseDecided, NotAllowed, ReportRefused, Restricted
from bot.jobs.model import JobKind, JobState, Showing, StoredImage
from bot.jobs.queue import JobQueue
from bot.moderation import audit, cases
from bot.moderation.cases import APPEAL_WINDOW, CaseKind, CaseState, Decision
from bot.moderation.docket import Docket
from bot.moderation.notices import Notices
from bot.moderation.reports import Record, Reports
from bot.moderation.restrictions import Restrictions
from bot.moderation.retention import Retention
from bot.moderation.review import Review, Verdict
from bot.storage import tables
from bot.storage.images import ImageStore
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE
from tests.bot.jobs.conftest import new_job

AUTHOR, MOD, OTHER_MOD = 1, 50, 51
GUILD = 900
PLAIN, SPOILER, HELD, REMOVED = Showing


class Court:
    """A server's moderation without its Discord."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.queue = JobQueue(database)
        self.images = ImageStore(folder)
        self.reports = Reports(database)
        self.docket = Docket(database)
        self.notices = Notices(database)
        self.restrictions = Restrictions(database)
        self.review = Review(database, self.images, lambda png: [f"{png[0]:016x}", "f" * 16])

    async def drawn(self, count: int = 4, *, showing: Showing = PLAIN, **changes: Any) -> int:
        """A finished job's id; its pictures are of one byte each."""
        await self.queue.submit(new_job(user_id=AUTHOR, guild_id=GUILD, **changes), cost=1.0)
        job = await self.queue.claim()
        assert job is not None
        stored = [
            StoredImage(job.id, i, i, 64, 64, self.images.put(bytes([i])), self.images.put(b"latents"), showing=showing)
            for i in range(count)
        ]
        await self.queue.rendered(job, stored, seconds=1.0)
        await self.queue.shown(await self.queue.get(job.id))
        return job.id

    async def held(self, showing: Showing = HELD) -> tuple[int, int]:
        """A job whose only picture waits for a moderator, and its case."""
        job_id = await self.drawn(1, showing=showing)
        async with self.database.write() as connection:
            case_id = await cases.open_case(
                connection, CaseKind.PICTURE, guild_id=GUILD, user_id=AUTHOR, reason="score", job_id=job_id, index=0
            )
        return job_id, case_id

    async def showing(self, job_id: int) -> list[Showing]:
        return [image.showing for image in await self.queue.images(job_id)]

    async def unshown(self, job_id: int) -> bool:
        """The job's message is to be edited."""
        return job_id in await self.queue.unshown()

    async def told(self) -> list[str]:
        return [notice.content for notice in await self.notices.unsent() if notice.user_id == AUTHOR]

    async def rows(self, statement: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.scalars(statement))

    async def acts(self) -> list[str]:
        async with self.database.read() as connection:
            assert await audit.first_broken(connection) is None
        return await self.rows(select(tables.audit.c.act).order_by(tables.audit.c.id))


@pytest.fixture
async def court(database_url: str, tmp_path: Path) -> AsyncIterator[Court]:
    database = Database(database_url)
    await database.upgrade()
    yield Court(database, tmp_path / "images")
    await database.close()


@EITHER_DATABASE
async def test_reports_of_one_picture_join_one_case_and_the_third_hides_it(court: Court) -> None:
    job_id = await court.drawn()

    told = [await court.reports.report(job_id, 1, reporter, "not nice") for reporter in (AUTHOR, 11, 12)]

    assert {reported.case_id for reported in told} == {told[0].case_id}
    assert [(reported.reporters, reported.hidden) for reported in told] == [(1, False), (2, False), (3, True)]
    assert await court.showing(job_id) == [PLAIN, HELD, PLAIN, PLAIN]
    assert await court.unshown(job_id)
    file = await court.docket.look(told[0].case_id)
    assert [report.user_id for report in file.reports] == [AUTHOR, 11, 12]
    assert [image.index for image in file.images] == [1]

    with pytest.raises(ReportRefused, match="has it already"):
        await court.reports.report(job_id, 1, 13, "me too")
    whole = await court.reports.report(job_id, None, 12, "and the rest")
    assert whole.case_id != told[0].case_id


async def test_nobody_reports_twice_and_what_moderators_approved_is_not_hidden_by_numbers(court: Court) -> None:
    job_id = await court.drawn(1)
    case_id = (await court.reports.report(job_id, 0, 10, "bad")).case_id
    with pytest.raises(ReportRefused, match="reported this already"):
        await court.reports.report(job_id, 0, 10, "bad")
    await court.review.decide(case_id, Verdict(Decision.APPROVE, MOD))
    with pytest.raises(ReportRefused, match="moderator has decided"):
        await court.reports.report(job_id, 0, 10, "bad")

    later = [await court.reports.report(job_id, 0, reporter, "bad") for reporter in (11, 12, 13, 14)]

    assert not any(reported.hidden for reported in later)
    assert await court.showing(job_id) == [PLAIN]
    records = (await court.docket.look(case_id)).reports
    assert [report.record for report in records] == [Record()]
    other = await court.reports.report(await court.drawn(1), 0, 10, "bad")
    assert (await court.docket.look(other.case_id)).reports[0].record == Record(decided=1, unfounded=1)


async def test_in_direct_messages_there_is_nobody_to_report_to(court: Court) -> None:
    job_id = await court.drawn(1)
    async with court.database.write() as connection:
        await connection.execute(update(tables.jobs).values(guild_id=None))

    with pytest.raises(ReportRefused, match="no moderators"):
        await court.reports.report(job_id, 0, 10, "bad")

    assert await court.rows(select(tables.cases.c.id)) == []


@EITHER_DATABASE
async def test_two_moderators_at_once_make_one_decision(court: Court) -> None:
    job_id, case_id = await court.held()

    outcomes = await asyncio.gather(
        court.review.decide(case_id, Verdict(Decision.APPROVE, MOD)),
        court.review.decide(case_id, Verdict(Decision.BAN, OTHER_MOD, "no")),
        return_exceptions=True,
    )

    (loser,) = (outcome for outcome in outcomes if isinstance(outcome, BaseException))
    (winner,) = (outcome for outcome in outcomes if isinstance(outcome, cases.Case))
    assert isinstance(loser, CaseDecided)
    assert str(loser) == f"<@{winner.decided_by}> has decided this case: {winner.decision}."
    assert await court.showing(job_id) == [PLAIN if winner.decision is Decision.APPROVE else REMOVED]
    assert (await court.acts()).count("case.decide") == 1
    assert len(await court.told()) == (winner.decision is Decision.BAN)


@EITHER_DATABASE
async def test_a_removal_is_told_remembered_and_taken_back_by_an_appeal(court: Court) -> None:
    job_id = await court.drawn()
    case_id = (await court.reports.report(job_id, None, 10, "bad")).case_id
    until = datetime.now(UTC) + timedelta(days=1)

    await court.review.decide(case_id, Verdict(Decision.TIME_OUT, MOD, "too grim", until))

    assert await court.showing(job_id) == [REMOVED] * 4
    assert [image.note for image in await court.queue.images(job_id)] == [
        "A moderator removed this picture: too grim"
    ] * 4
    hashes = select(tables.removed_hashes.c.phash).order_by(tables.removed_hashes.c.number)
    assert await court.rows(hashes) == ["0" * 16, "f" * 16, "0" * 15 + "1", "0" * 15 + "2", "0" * 15 + "3"]
    with pytest.raises(Restricted, match=f"until <t:{int(until.timestamp())}:f>: too grim"):
        await court.restrictions.require_none(GUILD, AUTHOR)
    (why,) = await court.told()
    assert why.startswith(f"A moderator removed the pictures of your job {job_id}: too grim")
    assert "appeal once" in why

    with pytest.raises(AppealRefused, match="Only whoever"):
        await court.review.appeal(case_id, 10, "please")
    appeal = await court.review.appeal(case_id, AUTHOR, "it is an apple")
    with pytest.raises(AppealRefused, match="asked for already"):
        await court.review.appeal(case_id, AUTHOR, "please")
    assert (await court.docket.look(appeal)).appealed == await court_case(court, case_id)

    with pytest.raises(NotAllowed, match="first decision"):
        await court.review.decide(appeal, Verdict(Decision.REMOVE, MOD))
    await court.review.decide(appeal, Verdict(Decision.APPROVE, OTHER_MOD, "sorry"))

    assert await court.showing(job_id) == [PLAIN] * 4
    assert await court.rows(hashes) == []
    await court.restrictions.require_none(GUILD, AUTHOR)
    assert (await court.told())[-1].endswith("taken the decision back: sorry")
    assert await court.acts() == ["user.restrict", "case.decide", "user.unrestrict", "case.decide"]
    with pytest.raises(AppealRefused, match="no decision that could"):
        await court.review.appeal(appeal, AUTHOR, "again")


@EITHER_DATABASE
async def test_an_upscale_goes_and_comes_back_with_its_picture(court: Court) -> None:
    grid = await court.drawn(2)
    upscales = [await court.drawn(1, kind=JobKind.UPSCALE, parent_id=grid, parent_index=index) for index in (0, 1, 1)]
    own = (await court.reports.report(upscales[2], 0, 10, "bad")).case_id
    await court.review.decide(own, Verdict(Decision.REMOVE, MOD))
    case_id = (await court.reports.report(grid, 1, 10, "bad")).case_id

    await court.review.decide(case_id, Verdict(Decision.REMOVE, MOD, "no"))

    assert [await court.showing(job_id) for job_id in upscales] == [[PLAIN], [REMOVED], [REMOVED]]
    assert await court.unshown(upscales[1])
    assert not await court.unshown(upscales[0])

    await court.review.decide(await court.review.appeal(case_id, AUTHOR, "?"), Verdict(Decision.APPROVE, OTHER_MOD))

    assert [await court.showing(job_id) for job_id in (grid, *upscales)] == [
        [PLAIN, PLAIN],
        [PLAIN],
        [PLAIN],
        [REMOVED],
    ]


async def test_an_upscale_is_kept_as_long_as_somebody_may_appeal_for_its_picture(court: Court) -> None:
    grid = await court.drawn(1)
    upscale = await court.drawn(1, kind=JobKind.UPSCALE, parent_id=grid, parent_index=0)
    case_id = (await court.reports.report(grid, 0, 10, "bad")).case_id
    await court.review.decide(case_id, Verdict(Decision.REMOVE, MOD))
    now = datetime.now(UTC)
    async with court.database.write() as connection:
        await connection.execute(update(tables.cases).values(decided_at=now + timedelta(days=2)))

    async def kept(days: int) -> bool:
        await Retention(court.database, court.images).look(now + timedelta(days=days))
        (image,) = await court.queue.images(upscale)
        return image.sha256 in court.images.names()

    assert await kept(days=8)
    assert not await kept(days=10)


async def court_case(court: Court, case_id: int) -> cases.Case:
    return (await court.docket.look(case_id)).case


async def test_approving_a_report_restores_what_it_hid_as_it_was(court: Court) -> None:
    job_id = await court.drawn(2, showing=SPOILER)
    for reporter in (10, 11, 12):
        case_id = (await court.reports.report(job_id, 0, reporter, "bad")).case_id
    assert await court.showing(job_id) == [HELD, SPOILER]

    await court.review.decide(case_id, Verdict(Decision.APPROVE, MOD))

    assert await court.showing(job_id) == [SPOILER, SPOILER]
    assert await court.told() == []


@pytest.mark.parametrize(
    ("held", "decision", "shown"), [(HELD, Decision.APPROVE, PLAIN), (REMOVED, Decision.SPOILER, SPOILER)]
)
async def test_an_appeal_shows_what_was_never_seen(
    court: Court, held: Showing, decision: Decision, shown: Showing
) -> None:
    job_id, case_id = await court.held(held)
    await court.review.decide(case_id, Verdict(Decision.REMOVE, MOD))

    await court.review.decide(await court.review.appeal(case_id, AUTHOR, "please"), Verdict(decision, OTHER_MOD))

    assert await court.showing(job_id) == [shown]


@EITHER_DATABASE
async def test_a_moderator_takes_a_decision_back_unasked_but_not_about_themselves(court: Court) -> None:
    job_id, case_id = await court.held()
    await court.review.decide(case_id, Verdict(Decision.BAN, MOD, "no"))
    with pytest.raises(NotAllowed, match="about yourself"):
        await court.review.take_back(case_id, AUTHOR, "me")

    outcomes = await asyncio.gather(
        *(court.review.take_back(case_id, by, "a mistake") for by in (MOD, OTHER_MOD)), return_exceptions=True
    )

    assert sorted(type(outcome) for outcome in outcomes if outcome) == [AppealRefused]
    assert await court.showing(job_id) == [PLAIN]
    await court.restrictions.require_none(GUILD, AUTHOR)
    file = await court.docket.look(case_id)
    assert file.appeal is not None
    assert (file.case.decision, file.appeal.decision) == (Decision.BAN, Decision.APPROVE)
    assert (await court.told())[-1].endswith("taken the decision back: a mistake")
    assert (await court.acts())[-2:] == ["user.unrestrict", "case.decide"]
    with pytest.raises(AppealRefused, match="asked for already"):
        await court.review.appeal(case_id, AUTHOR, "please")


async def test_an_upheld_appeal_stays_and_the_author_hears_it(court: Court) -> None:
    job_id, case_id = await court.held()
    await court.review.decide(case_id, Verdict(Decision.BAN, MOD, "no"))
    appeal = await court.review.appeal(case_id, AUTHOR, "please")

    await court.review.decide(appeal, Verdict(Decision.REMOVE, MOD, owner=True))

    assert await court.showing(job_id) == [REMOVED]
    assert (await court.told())[-1].endswith("the decision stays.")
    with pytest.raises(Restricted, match="any more: no"):
        await court.restrictions.require_none(GUILD, AUTHOR)


async def test_an_appeal_comes_too_late_after_its_window(court: Court) -> None:
    _, case_id = await court.held()
    await court.review.decide(case_id, Verdict(Decision.REMOVE, MOD))
    async with court.database.write() as connection:
        long_ago = datetime.now(UTC) - APPEAL_WINDOW - timedelta(seconds=1)
        await connection.execute(update(tables.cases).values(decided_at=long_ago))

    with pytest.raises(AppealRefused, match="7 days"):
        await court.review.appeal(case_id, AUTHOR, "please")


@pytest.mark.parametrize("decision", list(Decision))
async def test_nobody_decides_about_themselves(court: Court, decision: Decision) -> None:
    job_id, case_id = await court.held()

    with pytest.raises(NotAllowed, match="about yourself"):
        await court.review.decide(case_id, Verdict(decision, AUTHOR))

    assert await court.showing(job_id) == [HELD]
    assert (await court_case(court, case_id)).state is CaseState.OPEN
    assert await court.acts() == []


@EITHER_DATABASE
async def test_a_held_prompt_is_drawn_or_refused(court: Court) -> None:
    outcomes = []
    for decision in (Decision.APPROVE, Decision.REMOVE):
        job = await court.queue.submit(new_job(user_id=AUTHOR, guild_id=GUILD, held="a rule"), cost=1.0)
        (case_id,) = await court.rows(select(tables.cases.c.id).where(tables.cases.c.job_id == job.id))
        await court.review.decide(case_id, Verdict(decision, MOD, "fine"))
        outcomes.append(await court.queue.get(job.id))

    drawn, refused = outcomes
    assert drawn.state is JobState.QUEUED
    assert (refused.state, refused.error) == (JobState.FAILED, "A moderator refused this prompt: fine")
    assert len(await court.told()) == 1


async def test_a_prompt_cancelled_before_the_decision_leaves_nothing_to_decide(court: Court) -> None:
    cancelled = []
    for _ in range(2):
        job = await court.queue.submit(new_job(user_id=AUTHOR, guild_id=GUILD, held="a rule"), cost=1.0)
        assert await court.queue.cancel(job.id)
        cancelled += await court.rows(select(tables.cases.c.id).where(tables.cases.c.job_id == job.id))

    with pytest.raises(CaseDecided, match="nothing left to decide"):
        await court.review.decide(cancelled[0], Verdict(Decision.APPROVE, MOD))
    await court.docket.void_pointless()

    for case_id in cancelled:
        assert (await court_case(court, case_id)).state is CaseState.VOID


async def test_a_shorter_time_out_shortens_nothing(court: Court) -> None:
    now = datetime.now(UTC)
    for days in (7, 1):
        _, case_id = await court.held()
        await court.review.decide(case_id, Verdict(Decision.TIME_OUT, MOD, f"{days}", now + timedelta(days=days)))

    with pytest.raises(Restricted, match=": 7"):
        await court.restrictions.require_none(GUILD, AUTHOR)
