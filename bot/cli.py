"""imagine-bot: run the bot, try it in a sandbox, or check what keeps it from running."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot import settings as settings_module
from bot.errors import (
    AlreadyRunning,
    DatabaseUnusable,
    DiscordRefused,
    DiscordUnreachable,
    SettingsError,
    UserFacingError,
)

EXIT_CODES: dict[type[UserFacingError], int] = {
    SettingsError: 2,
    AlreadyRunning: 2,
    DiscordRefused: 3,
    DiscordUnreachable: 4,
    DatabaseUnusable: 5,
}
"""What ends the program with one sentence; anything else is a defect and shows its traceback."""

SANDBOX_DATA = Path("data/sandbox")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 something to mend or a failed step, 2 to 5 as in EXIT_CODES."""
    options = _parser().parse_args(arguments)
    command = {"run": _run, "sandbox": _sandbox, "check": _check, "data": _data}[options.command]
    try:
        return command(options)
    except tuple(EXIT_CODES) as error:
        print(f"imagine-bot: {error}", file=sys.stderr)
        return EXIT_CODES[type(error)]


def _run(options: argparse.Namespace) -> int:
    import uvloop

    from bot import app, child

    if options.with_parent:
        child.end_with_parent()
    settings = settings_module.load()
    token = settings.token()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uvloop.run(app.run(settings, token))
    return 0


def _sandbox(options: argparse.Namespace) -> int:
    from bot import sandboxed
    from bot.child import BotEnded
    from bot.sandbox.script import StepFailed

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        if options.run:
            tell = _print_json if options.json else _print_report
            asyncio.run(sandboxed.play(_steps(options.run), options.data_dir, options.out, tell))
        else:
            asyncio.run(sandboxed.serve(options.host, options.port, options.data_dir or SANDBOX_DATA, _print_line))
    except StepFailed as failure:
        print(f"imagine-bot: {failure}", file=sys.stderr)
        return 1
    except BotEnded as ended:  # it has said why
        return ended.code or 1
    return 0


def _check(options: argparse.Namespace) -> int:
    from bot.check import check

    logging.basicConfig(level=logging.ERROR, format="%(message)s")

    async def show() -> bool:
        fine = True
        async for finding in check():
            print(finding, flush=True)
            fine = fine and finding.ok
        return fine

    return 0 if asyncio.run(show()) else 1


def _data(options: argparse.Namespace) -> int:
    from t2i.provenance import CertificateError, create

    folder = settings_module.load().certificate_folder
    try:
        create(folder, options.organisation, replace=options.replace)
    except (CertificateError, OSError) as error:
        print(f"imagine-bot: {error}", file=sys.stderr)
        return 1
    print(
        f"Pictures are signed from the next start on with the certificate in {folder} ({options.organisation}). "
        "Keep the folder secret and backed up; give away only roots.pem, by which others know your pictures again."
    )
    return 0


def _steps(given: Sequence[str]) -> list[str]:
    """The steps, with those of files in the place of `@file`: one a line, but for empty lines and # comments.

    Raises SettingsError for a file that cannot be read.
    """
    steps: list[str] = []
    for step in given:
        if not step.startswith("@"):
            steps.append(step)
            continue
        try:
            lines = Path(step[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The steps of {step[1:]} cannot be read: {error}.") from None
        steps += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return steps


def _print_line(line: str) -> None:
    print(line, flush=True)


def _print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, ensure_ascii=False), flush=True)


def _print_report(report: dict[str, Any]) -> None:
    print(f"> {report['step']}\n{report.get('content', '')}", flush=True)
    for attachment in report.get("attachments", ()):
        print(f"  {attachment.get('path') or attachment['filename']}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="imagine-bot", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run the bot with the settings of the environment and .env")
    run.add_argument("--with-parent", action="store_true", help="stop when the process that started this one ends")

    sandbox = commands.add_parser("sandbox", help="try the bot in a local Discord, without a token or a network")
    sandbox.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default %(default)s)")
    sandbox.add_argument("--port", type=int, default=8080, help="port of the page; 0 takes a free one (default 8080)")
    sandbox.add_argument("--data-dir", type=Path, help=f"default {SANDBOX_DATA}; with --run, none is kept")
    sandbox.add_argument(
        "--run",
        action="append",
        metavar="STEP",
        help="do a step, such as '/imagine prompt: a red apple seed: 7' or 'press V2', or those that a file lists, "
        "as '@steps.txt', and end after the last one",
    )
    sandbox.add_argument("--out", type=Path, help="with --run: folder that the pictures are saved into")
    sandbox.add_argument("--json", action="store_true", help="with --run: print one JSON object per settled message")

    data = commands.add_parser("data", help="what belongs to the bot's data folder")
    kinds = data.add_subparsers(dest="kind", required=True)
    certificate = kinds.add_parser("certificate", help="make the certificate that pictures are signed with")
    certificate.add_argument("--organisation", default="Imagine Bot", help="whose pictures they are, for all to read")
    certificate.add_argument("--replace", action="store_true", help="make another; pictures of the old one stay known")

    commands.add_parser("check", help="tell what keeps the bot from running, and how to mend it")
    return parser
