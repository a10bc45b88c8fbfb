"""The database of a drill: a SQLite file in its folder, or a PostgreSQL cluster that lives as long as the drill."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTUP_SECONDS = 60.0


class NoDatabase(Exception):
    """PostgreSQL is asked for and not installed."""


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh `sqlite` or `postgres` database; gone when the block ends. Raises NoDatabase."""
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'data' / 'imagine.db'}"
    else:
        with _cluster(folder) as url:
            yield url


def version(kind: str) -> dict[str, str]:
    """The server's version, where there is a server."""
    if kind == "sqlite":
        return {}
    said = subprocess.run([_program("initdb"), "--version"], check=True, capture_output=True, text=True).stdout
    return {"postgresql": said.split()[2]}


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    initdb, control = _program("initdb"), _program("pg_ctl")
    home = folder / "postgres"
    home.mkdir()
    # PostgreSQL refuses to run as root, so root starts it as whoever was made for that.
    owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        shutil.chown(home, owner)
        folder.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str | Path) -> None:
        user = owner if os.geteuid() == 0 else None
        subprocess.run(command, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL, timeout=STARTUP_SECONDS)

    data = home / "data"
    run(initdb, "--pgdata", data, "--username", "imagine", "--auth", "trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {home}"
    run(control, "--pgdata", data, "--wait", "--log", home / "log", "--options", options, "start")
    try:
        yield f"postgresql+psycopg://imagine@127.0.0.1:{port}/postgres"
    finally:
        run(control, "--pgdata", data, "--wait", "--mode", "immediate", "stop")


def _program(name: str) -> str:
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(packaged[-1]) if packaged else None)
    if found is None:
        raise NoDatabase(f"{name} is not installed: this drill needs a PostgreSQL server on this machine.")
    return found
