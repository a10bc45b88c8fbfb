"""Both databases for tests, and a PostgreSQL server that lives as long as they do."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from bot.storage.session import Database
from bot.storage.tables import metadata

EITHER_DATABASE = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
"""Marks what must hold on both databases."""


class PostgresServer:
    """A throw-away server: reached through a socket in its own folder, careless of power cuts."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not in pytest's own folder, which nobody but its owner can enter: PostgreSQL refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="imagine-postgres-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def start(self) -> None:
        data = self._folder / "data"
        self._run("initdb", "--pgdata", data, "--username=imagine", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off"
        self._run("pg_ctl", "--pgdata", data, "--options", options, "--log", self._folder / "log", "--wait", "start")
        self._shared = self.new_database()
        asyncio.run(_upgrade(self._shared))

    def stop(self) -> None:
        self._run("pg_ctl", "--pgdata", self._folder / "data", "--mode=immediate", "stop")
        shutil.rmtree(self._folder)

    def emptied_database(self) -> str:
        """The URL of a database with every table and no row. There is one of it, for one test after the other."""
        import psycopg  # only where there is a server

        with psycopg.connect(self._shared.replace("+psycopg", ""), autocommit=True) as connection:
            tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
            connection.execute("SET session_replication_role = replica")  # no trigger keeps the audit log whole
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        return self._shared

    def new_database(self) -> str:
        """The URL of a new database without tables."""
        name = f"test_{uuid.uuid4().hex}"
        self._run("createdb", "--host", self._folder, "--username=imagine", name)
        return f"postgresql+psycopg://imagine@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        # To a file, not a pipe: the server would inherit the pipe and keep it open.
        with (self._folder / "output").open("a+") as output:
            done = subprocess.run(command, cwd=self._folder, stdout=output, stderr=output, check=False, **self._as)
            output.seek(0)
            assert done.returncode == 0, output.read()


async def _upgrade(url: str) -> None:
    database = Database(url)
    await database.upgrade()
    await database.close()
