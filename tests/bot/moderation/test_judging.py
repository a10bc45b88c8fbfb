"""What is shown, covered, held or kept back, by score and by channel; and nothing at all where nothing can judge."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import insert

from bot.errors import NotJudged
from bot.jobs.model import Job, Showing
from bot.moderation import hashes
from bot.moderation.judging import Judging
from bot.moderation.policy import STANDARD, Thresholds
from bot.moderation.servers import ACCEPTANCE, Servers
from bot.storage import tables
from bot.storage.session import Database
from tests.bot.views.examples import job

GUILD, CHANNEL, RESTRICTED_CHANNEL = 900, 500, 501
JOB = job(guild_id=GUILD, channel_id=CHANNEL)
RESTRICTED = job(guild_id=GUILD, channel_id=RESTRICTED_CHANNEL)
DIRECT = job(guild_id=None, channel_id=CHANNEL)


class Scripted:
    """Gives the scores it is told to; there is nothing explicit in this repository."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.works = self.idle = True
        self.started = 0
        self.asked: list[Sequence[bytes]] = []

    def start(self) -> None:
        self.started += 1

    async def score(self, pictures: Sequence[bytes]) -> list[float]:
        self.asked.append(pictures)
        if not self.works:
            raise NotJudged("It is dead.")
        return (self.scores * len(pictures))[: len(pictures)]


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.servers = Servers(database)
        self.classifier = Scripted(0.0)

    def judging(self, classifier: Scripted | None = None, *, accepts_unjudged: bool = False) -> Judging:
        return Judging(
            self.database,
            self.servers,
            classifier,
            age_restricted=lambda guild_id, channel_id: channel_id == RESTRICTED_CHANNEL,
            accepts_unjudged=accepts_unjudged,
        )

    async def remove(self, picture: bytes, guild_id: int = GUILD) -> None:
        case = {"kind": "report", "state": "decided", "user_id": 1, "reason": "", "opened_at": JOB.created_at}
        async with self.database.write() as connection:
            case_id = await connection.scalar(
                insert(tables.cases).values(guild_id=guild_id, **case).returning(tables.cases.c.id)
            )
            rows = [
                {"case_id": case_id, "number": number, "guild_id": guild_id, "phash": phash}
                for number, phash in enumerate(hashes.variants(picture))
            ]
            await connection.execute(insert(tables.removed_hashes), rows)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}")
    await database.upgrade()
    yield World(database)
    await database.close()


def picture(number: int = 0, side: int = 64, format: str = "PNG") -> bytes:
    colours = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


async def showings(judging: Judging, whose: Job, *pictures: bytes) -> list[Showing]:
    return [verdict.showing for verdict in await judging.judge(whose, pictures)]


async def test_scores_decide_how_pictures_are_shown_where_children_may_be(world: World) -> None:
    four = [picture(number) for number in range(4)]
    scores = (0.1, STANDARD.spoiler_at, STANDARD.hold_at, STANDARD.block_at)
    judging = world.judging(Scripted(*scores))
    verdicts = await judging.judge(JOB, four)
    assert [verdict.showing for verdict in verdicts] == [
        Showing.PLAIN,
        Showing.SPOILER,
        Showing.HELD,
        Showing.REMOVED,
    ]
    assert tuple(verdict.score for verdict in verdicts) == scores
    assert [verdict.phash for verdict in verdicts] == [hashes.phash(one) for one in four]
    assert [verdict.case is not None for verdict in verdicts] == [False, False, True, False], "held: somebody decides"
    assert verdicts[3].note is not None
    assert await showings(judging, DIRECT, *four) == [Showing.PLAIN, Showing.SPOILER, Showing.REMOVED, Showing.REMOVED]
    assert await showings(judging, RESTRICTED, *four) == [Showing.PLAIN] * 4

    await world.servers.change(GUILD, 1, "settings.thresholds", spoiler_at=0.05, hold_at=0.06)
    assert await showings(judging, JOB, *four) == [Showing.HELD, Showing.HELD, Showing.HELD, Showing.REMOVED]


def test_a_higher_score_is_never_shown_more_openly() -> None:
    openness = list(Showing)
    for limits in (STANDARD, Thresholds(0, 0, 0), Thresholds(0.9, 0.2, 0.5), Thresholds(1, 1, 1)):
        shown = [openness.index(limits.showing(score / 100)) for score in range(101)]
        assert shown == sorted(shown)


async def test_what_looks_like_a_removed_picture_is_shown_nowhere_in_that_server(world: World) -> None:
    judging = world.judging(Scripted(0.0))
    await world.remove(picture(7, side=256))
    again, other = picture(7, side=200, format="JPEG"), picture(8)
    for whose in (JOB, RESTRICTED):
        verdict, innocent = await judging.judge(whose, [again, other])
        assert (verdict.showing, innocent.showing) == (Showing.REMOVED, Showing.PLAIN)
        assert verdict.note == "A moderator removed a picture like it."
        assert verdict.case is not None, "moderators can overrule it"
    elsewhere = job(guild_id=901, channel_id=CHANNEL)
    assert await showings(judging, elsewhere, again) == [Showing.PLAIN]
    assert await showings(judging, DIRECT, again) == [Showing.PLAIN]


@pytest.mark.parametrize("classifier", [None, Scripted(0.0)])
async def test_nothing_is_shown_unjudged_unless_somebody_accepts_the_risk(
    world: World, classifier: Scripted | None
) -> None:
    if classifier is not None:
        classifier.works = False
    judging = world.judging(classifier)
    for whose in (JOB, DIRECT):
        with pytest.raises(NotJudged):
            await judging.require_judge(whose.guild_id, whose.channel_id)
        with pytest.raises(NotJudged):
            await judging.judge(whose, [picture()])
    assert classifier is None or classifier.started == 2, "whoever is refused makes it try again"
    await judging.require_judge(GUILD, RESTRICTED_CHANNEL)
    assert await showings(judging, RESTRICTED, picture()) == [Showing.PLAIN]

    accepting = world.judging(classifier, accepts_unjudged=True)
    await world.servers.change(GUILD, 1, "settings.accept-unjudged", unjudged_accepted=ACCEPTANCE)
    for judge, whose in ((judging, JOB), (accepting, JOB), (accepting, DIRECT)):
        await judge.require_judge(whose.guild_id, whose.channel_id)
        [verdict] = await judge.judge(whose, [picture()])
        assert (verdict.showing, verdict.score) == (Showing.PLAIN, None)


async def test_what_is_no_picture_is_not_shown_anywhere(world: World) -> None:
    for whose in (JOB, RESTRICTED):
        with pytest.raises(NotJudged):
            await world.judging(Scripted(0.0)).judge(whose, [b"no picture"])


# --- previews ---------------------------------------------------------------------------------------------------------


def sheet() -> bytes:
    """Four pictures of nothing but detail."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True)
    return out.getvalue()


def detail(data: bytes) -> float:
    """How much neighbouring pixels differ."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64)
    return float(np.abs(np.diff(pixels)).mean())


async def test_a_preview_is_plain_only_where_each_of_its_pictures_was_judged_harmless(world: World) -> None:
    preview = sheet()
    harmless = Scripted(0.1)
    assert await world.judging(harmless).screen(JOB, preview) == preview
    [parts] = harmless.asked
    assert [Image.open(io.BytesIO(part)).size for part in parts] == [(128, 128)] * 4

    busy, dead = Scripted(0.1), Scripted(0.1)
    busy.idle = dead.works = False
    for judging in (
        world.judging(Scripted(0.1, 0.1, 0.1, STANDARD.spoiler_at)),
        world.judging(busy),
        world.judging(dead),
        world.judging(None),
    ):
        for whose in (JOB, DIRECT):
            screened = await judging.screen(whose, preview)
            assert Image.open(io.BytesIO(screened)).size == (256, 256)
            assert detail(screened) < detail(preview) / 20
    assert busy.asked == [], "what is finished is judged first"

    for judging in (world.judging(busy), world.judging(None)):
        assert await judging.screen(RESTRICTED, preview) == preview
    assert await world.judging(None, accepts_unjudged=True).screen(JOB, preview) == preview


async def test_samples_wait_for_their_verdict_and_are_left_out_without_one(world: World) -> None:
    busy, dead = Scripted(0.1), Scripted(0.1)
    busy.idle = dead.works = False
    assert await world.judging(busy).harmless(GUILD, CHANNEL, sheet(), 4)
    assert not await world.judging(Scripted(0.1, STANDARD.spoiler_at)).harmless(GUILD, CHANNEL, sheet(), 4)
    assert not await world.judging(dead).harmless(GUILD, CHANNEL, sheet(), 4)
    assert await world.judging(dead).harmless(GUILD, RESTRICTED_CHANNEL, sheet(), 4)
