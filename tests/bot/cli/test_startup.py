"""What keeps the bot from running ends it with one plain sentence and an exit code, never with a traceback."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bot.sandbox.events import Event, PresenceChanged
from bot.sandbox.server import Sandbox
from bot.storage.lock import exclusive
from tests.bot.cli.conftest import ROOT, Cli, Ended


def sentence(ended: Ended) -> str:
    """The last line of the log; there must be no traceback before it."""
    assert "Traceback" not in ended.err
    return ended.err.strip().splitlines()[-1]


async def test_without_a_token_it_says_where_one_comes_from(cli: Cli) -> None:
    ended = await cli("run")

    assert ended.code == 2
    assert sentence(ended).startswith("imagine-bot: There is no Discord token: set IMAGINE_DISCORD_TOKEN")


async def test_a_token_file_that_cannot_be_read_is_named(cli: Cli) -> None:
    ended = await cli("run", discord_token_file="/nowhere/token")

    assert ended.code == 2
    assert "IMAGINE_DISCORD_TOKEN_FILE cannot be read" in sentence(ended)


async def test_every_mistaken_setting_is_named(cli: Cli) -> None:
    ended = await cli("run", progress_interval="soon", queued_per_user="0")

    assert ended.code == 2
    assert "IMAGINE_PROGRESS_INTERVAL" in sentence(ended)
    assert "IMAGINE_QUEUED_PER_USER" in sentence(ended)


async def test_a_list_that_is_no_json_is_explained(cli: Cli) -> None:
    ended = await cli("run", blocked_words="one, two")

    assert ended.code == 2
    assert "blocked_words" in sentence(ended)
    assert "Lists are written as JSON" in sentence(ended)


@pytest.mark.parametrize("address", ["http://example.org/api/v10", "https://127.0.0.1/api/v10", "http://10.0.0.1/api"])
async def test_a_token_never_travels_to_another_machine_than_discords(cli: Cli, address: str) -> None:
    ended = await cli("run", discord_token="secret-token", discord_api_base=address)

    assert ended.code == 2
    assert "only a sandbox on this machine is allowed" in sentence(ended)
    assert "secret-token" not in ended.err


async def test_a_wrong_token_is_one_sentence(cli: Cli) -> None:
    async with Sandbox() as sandbox:
        ended = await cli("run", discord_token="wrong", discord_api_base=sandbox.api_base)

    assert ended.code == 3
    assert sentence(ended).startswith("imagine-bot: Discord does not accept the token: copy it anew")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (4004, "Discord does not accept the token"),
        (4014, "Discord refuses the gateway intents of this bot (4014)"),
        (4013, "Discord closed the connection for good with code 4013"),
    ],
)
async def test_a_gateway_that_closes_for_good_is_one_sentence(cli: Cli, code: int, words: str) -> None:
    async with Sandbox() as sandbox:

        def close(event: Event) -> None:
            # Every time, as Discord does: a client that sees the connection end at once takes it for a lost one.
            if event == PresenceChanged(online=True):
                sandbox.faults.inject({"gateway": "close", "code": code})

        sandbox.world.listen(close)
        ended = await cli("run", discord_token=sandbox.token, discord_api_base=sandbox.api_base, checkpoint="none")

    assert ended.code == 3
    assert words in sentence(ended)


async def test_a_discord_that_cannot_be_reached_is_one_sentence(cli: Cli) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        ended = await cli("run", discord_token="any", discord_api_base=f"http://127.0.0.1:{port}/api/v10")

    assert ended.code == 4
    assert "Discord cannot be reached" in sentence(ended)


async def test_a_second_bot_leaves_the_data_folder_to_the_first(cli: Cli, tmp_path: Path) -> None:
    with exclusive(tmp_path / "data"):
        ended = await cli("run", discord_token="any", discord_api_base="http://127.0.0.1:9/api/v10")

    assert ended.code == 2
    assert "Another Imagine Bot" in sentence(ended)


async def test_a_data_folder_that_cannot_be_written_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ended = await cli("run", discord_token="any", data_dir=str(tmp_path / "file" / "data"))

    assert ended.code == 2
    assert "set IMAGINE_DATA_DIR to another folder" in sentence(ended)


@pytest.mark.parametrize("address", ["imagine", "mysql://root:pass-word@127.0.0.1/imagine"])
async def test_an_address_of_no_known_database_is_one_sentence(cli: Cli, address: str) -> None:
    ended = await cli("run", discord_token="any", database_url=address)

    assert ended.code == 2
    assert "is not the address of a PostgreSQL or SQLite database" in sentence(ended)
    assert "pass-word" not in ended.err


async def test_a_database_that_does_not_answer_is_one_sentence(cli: Cli) -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        ended = await cli(
            "run", discord_token="any", database_url=f"postgresql://me:pass-word@127.0.0.1:{port}/imagine"
        )

    assert ended.code == 5
    assert "The database cannot be used: connection failed" in sentence(ended)
    assert "pass-word" not in ended.err


async def test_a_file_that_is_no_database_is_one_sentence_and_stays_as_it_is(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear reader, " * 100)

    ended = await cli("run", discord_token="any", database_url=f"sqlite:///{file}")

    assert ended.code == 5
    assert "The database cannot be used: file is not a database" in sentence(ended)
    assert file.read_text() == "Dear reader, " * 100


async def test_a_database_that_somebody_else_writes_to_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "imagine.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ended = await cli("run", discord_token="any", database_url=f"sqlite:///{tmp_path / 'imagine.db'}")

    assert ended.code == 5
    assert "The database cannot be used: database is locked. Start again once it can" in sentence(ended)


async def test_a_database_of_a_newer_version_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "imagine.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('of next year')")

    ended = await cli("run", discord_token="any", database_url=f"sqlite:///{tmp_path / 'imagine.db'}")

    assert ended.code == 5
    assert "written by a newer Imagine Bot" in sentence(ended)


async def test_a_port_that_is_taken_is_one_sentence(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await cli("sandbox", "--port", str(port))

    assert ended.code == 2
    assert f"port {port} is taken; choose another by --port" in sentence(ended)


async def test_the_sandbox_refuses_to_listen_to_others(cli: Cli) -> None:
    ended = await cli("sandbox", "--host", "0.0.0.0", "--port", "0")

    assert ended.code == 2
    assert "only listens on this machine" in sentence(ended)


async def test_the_bot_never_imports_torch() -> None:
    program = """
import sys
import bot.app, bot.check, bot.cli, bot.sandboxed
from bot.client import EXTENSIONS
for extension in EXTENSIONS:
    __import__(extension)
print(sorted({"torch", "diffusers", "transformers", "numpy"} & set(sys.modules)))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert process.returncode == 0
    assert out.decode().strip() == "[]"
