"""A drill's outcome as one JSON object, and as a table for whoever looks at a terminal."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.drills import databases
from benchmarks.gates import Gate

LIBRARIES = ("imagine-bot", "discord.py", "aiohttp", "sqlalchemy", "torch")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one drill found."""

    figures: dict[str, Any]
    gates: list[Gate]


def compose(drill: str, arguments: dict[str, Any], outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "drill": drill,
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{name: version(name) for name in LIBRARIES},
            **databases.version(arguments.get("database", "sqlite")),
        },
        "seed": arguments.pop("seed"),
        "arguments": arguments,
        "seconds": round(seconds, 1),
        "figures": outcome.figures,
        "gates": [gate.to_json() for gate in outcome.gates],
    }


def show(result: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console()
    table = Table(title=f"{result['drill']}, seed {result['seed']}: {result['seconds']} s on {result['device']}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    limits = {gate["name"].rsplit(",", 1)[0]: gate for gate in result["gates"]}
    for name, value in result["figures"].items():
        gate = limits.pop(name, None)
        verdict = "" if gate is None else f"{gate['limit']:g} {'ok' if gate['ok'] else '[bold red]broken[/]'}"
        table.add_row(name, str(value), verdict)
    console.print(table)


def write(result: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(result, indent=2) + "\n")


def exit_code(result: dict[str, Any]) -> int:
    return 0 if all(gate["ok"] for gate in result["gates"]) else 1
