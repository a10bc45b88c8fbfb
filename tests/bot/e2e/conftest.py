"""One sandbox and one bot serve every test that leaves them as they were; the others start their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox import world
from bot.sandbox.server import Sandbox
from tests.bot.e2e.studio import Bot, Member, people


@dataclass
class Studio:
    sandbox: Sandbox
    bot: Bot
    alice: Member
    bob: Member
    mod: Member
    admin: Member


@pytest.fixture(scope="session")
def settings(checkpoints_dir: Path) -> dict[str, str]:
    (moderators,) = (role.id for role in world.seed().guild.roles.values() if role.name == "Moderator")
    return {
        "IMAGINE_QUOTA_PER_ROLE": f'{{"{moderators}": 0.001}}',  # less than any job takes
        "IMAGINE_CHECKPOINTS_DIR": str(checkpoints_dir),
        "IMAGINE_CHECKPOINT": "tiny",
        "IMAGINE_BLOCKED_WORDS": '["gargoyle"]',
        "OMP_NUM_THREADS": "1",
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> AsyncIterator[Studio]:
    async with Sandbox(rate_limits=False) as sandbox, people(sandbox, "alice", "bob", "mod", "admin") as members:
        bot = Bot(sandbox, tmp_path_factory.mktemp("studio") / "data", settings)
        await bot.start()
        try:
            await members[0].online()
            await bot.says("The image engine is ready")
            yield Studio(sandbox, bot, *members)
        finally:
            await bot.stop()
