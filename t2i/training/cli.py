"""`t2i train`: networks and LoRAs, from pictures with captions to weights."""

from __future__ import annotations

import argparse
from pathlib import Path

_RUNS = {
    "base": "train the network that draws small pictures, or resume its run",
    "upsampler": "train the network that enlarges them, or resume its run",
    "distil": "teach a network to draw in one forward what takes its teacher two, or resume its run",
    "lora": "teach a checkpoint what a few pictures show, as a LoRA, or resume its run",
}


def add_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch-data", help="fetch the art, its captions and the text encoder")
    fetch.add_argument("--out", type=Path, default=Path("runs/data"))
    fetch.set_defaults(run=_fetch_data)
    for task, what in _RUNS.items():
        run = actions.add_parser(task, help=what)
        run.add_argument("--config", type=Path, default=Path(f"configs/{task}.toml"))
        run.set_defaults(run=_train, task=task)
    assemble = actions.add_parser("assemble", help="put two networks into one checkpoint")
    for name in ("base", "upsampler"):
        assemble.add_argument(
            f"--{name}",
            type=Path,
            metavar="CONFIG|FOLDER",
            default=Path(f"configs/{name}.toml"),
            help="a run's configuration, or a network's folder in a checkpoint",
        )
    assemble.add_argument("--card", type=Path, default=Path("configs/embedded.toml"))
    assemble.add_argument("--out", type=Path, required=True)
    assemble.set_defaults(run=_assemble)


def _fetch_data(arguments: argparse.Namespace) -> None:
    from t2i.training.sources import fetch

    print(f"{fetch(arguments.out)} pictures in {arguments.out}")


def _train(arguments: argparse.Namespace) -> None:
    from t2i.training.config import LoraConfig, TrainingError, read_config
    from t2i.training.loop import train

    config = read_config(arguments.config)
    if config.task != arguments.task:
        raise TrainingError(f"{arguments.config} is for t2i train {config.task}.")
    trainer, seconds = train(config)
    if not trainer.leads:
        return
    print(f"{trainer.step} steps in {config.out}, {seconds:.0f} s")
    if isinstance(config, LoraConfig):
        from t2i.training.lora import export

        print(export(config))


def _assemble(arguments: argparse.Namespace) -> None:
    from t2i.training.assemble import assemble

    info = assemble(arguments.base, arguments.upsampler, arguments.card, arguments.out)
    print(f"{info.name}: {info.parameters / 1e6:.1f} M parameters in {arguments.out}")
