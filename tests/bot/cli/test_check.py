"""imagine-bot check: one line for everything that must be in order."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bot.cli.conftest import Cli


async def test_a_machine_in_order_has_only_good_lines(cli: Cli, checkpoints_dir: Path) -> None:
    ended = await cli("check", discord_token="any", checkpoints_dir=str(checkpoints_dir), checkpoint="tiny")

    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "settings"],
        ["ok", "token"],
        ["ok", "data"],
        ["ok", "database"],
        ["ok", "pictures"],
        ["ok", "engine"],
        ["ok", "files"],
        ["ok", "files"],
    ]
    assert lines[4].endswith("are judged by open-nsfw")
    assert "draws with tiny" in lines[5]
    assert lines[-1].endswith("tiny: every file is as it should be")
    assert ended.code == 0


async def test_every_trouble_is_named_with_what_mends_it(cli: Cli, tmp_path: Path, checkpoints_dir: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "imagine.db").write_bytes(b"not a database, " * 100)

    folder = tmp_path / "checkpoints"
    shutil.copytree(checkpoints_dir / "tiny", folder / "damaged")
    weights = next((folder / "damaged" / "base").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])

    ended = await cli("check", checkpoints_dir=str(folder), checkpoint="lost", classifier="no:Such")

    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "settings"],
        ["mend", "token"],
        ["ok", "data"],
        ["mend", "database"],
        ["mend", "pictures"],
        ["mend", "engine"],
        ["ok", "files"],
        ["mend", "files"],
    ]
    assert "set IMAGINE_DISCORD_TOKEN" in lines[1]
    assert "IMAGINE_DATABASE_URL" in lines[3]
    assert "set IMAGINE_CLASSIFIER to open-nsfw" in lines[4]
    assert "'lost'" in lines[5]
    assert "is truncated" in lines[-1]
    assert "Traceback" not in ended.err
    assert ended.code == 1


async def test_settings_that_cannot_be_read_end_the_check(cli: Cli) -> None:
    ended = await cli("check", progress_interval="soon")

    assert ended.out.startswith("mend  settings  IMAGINE_PROGRESS_INTERVAL")
    assert len(ended.out.splitlines()) == 1
    assert ended.code == 1
