"""`t2i train`: the embedded checkpoint, from its data to its weights."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch-data", help="fetch the art, its captions and the text encoder")
    fetch.add_argument("--out", type=Path, default=Path("runs/data"))
    fetch.set_defaults(run=_fetch_data)
    for task in ("base", "upsampler"):
        run = actions.add_parser(task, help=f"train the {task} network, or resume its run")
        run.add_argument("--config", type=Path, default=Path(f"configs/{task}.toml"))
        run.set_defaults(run=_train)
    assemble = actions.add_parser("assemble", help="put the trained networks into one checkpoint")
    assemble.add_argument("--base", type=Path, default=Path("configs/base.toml"))
    assemble.add_argument("--upsampler", type=Path, default=Path("configs/upsampler.toml"))
    assemble.add_argument("--card", type=Path, default=Path("configs/embedded.toml"))
    assemble.add_argument("--out", type=Path, required=True)
    assemble.set_defaults(run=_assemble)


def _fetch_data(arguments: argparse.Namespace) -> None:
    from t2i.training.sources import fetch

    print(f"{fetch(arguments.out)} pictures in {arguments.out}")


def _train(arguments: argparse.Namespace) -> None:
    from t2i.training.loop import train

    print(f"{train(arguments.config):.0f} s")


def _assemble(arguments: argparse.Namespace) -> None:
    from t2i.training.assemble import assemble

    info = assemble(arguments.base, arguments.upsampler, arguments.card, arguments.out)
    print(f"{info.name}: {info.parameters / 1e6:.1f} M parameters in {arguments.out}")
