"""`t2i evaluate`: how good a checkpoint is, in figures and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t2i.api import T2IError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="embedded", help="a name, a folder or a hub id (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and gate")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="write the grid of forty prompts as PNG")
    parser.add_argument(
        "--nearest", type=Path, metavar="FILE", help="write the pictures nearest to training art as PNG"
    )
    parser.add_argument("--data", type=Path, default=Path("runs/data"), metavar="DIR", help="what it was trained on")
    parser.add_argument("--art", type=Path, default=Path("runs/evaluation"), metavar="DIR", help="art it never saw")
    parser.add_argument("--scorers", type=Path, default=Path("runs/scorers"), metavar="DIR", help="trained scorers")
    parser.add_argument(
        "--quick", action="store_true", help="few pictures and a tiny scorer, to try the command itself"
    )
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    """The exit code says whether every gate holds."""
    for file in (arguments.json, arguments.grid, arguments.nearest):
        if file and not file.absolute().parent.is_dir():
            raise T2IError(f"There is no folder {file.parent} to write to.")
    if not (arguments.data / "captions.jsonl").is_file():
        raise T2IError(f"{arguments.data} holds no training art to compare with: run 't2i train fetch-data' first.")

    from t2i import checkpoints
    from t2i.evaluation import art
    from t2i.evaluation.study import QUICK, Effort, Folders, evaluate

    if not (arguments.art / "captions.jsonl").is_file():
        _say("fetching art that no checkpoint here was trained on")
        art.fetch(arguments.art)
    model = checkpoints.load(arguments.checkpoint, arguments.device)
    effort = QUICK if arguments.quick else Effort()
    found = evaluate(model, Folders(arguments.data, arguments.art, arguments.scorers), effort, _say)
    if arguments.json:
        result = {"figures": found.figures, "gates": [asdict(gate) for gate in found.gates]}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.grid:
        found.grid.save(arguments.grid, "PNG")
    if arguments.nearest:
        found.nearest.save(arguments.nearest, "PNG")
    _print(found.figures)
    for gate in found.gates:
        print(f"{'holds ' if gate.holds else 'FAILS '} {gate.name} {gate.limit:g}: {gate.value:.3g}")
    return 0 if all(gate.holds for gate in found.gates) else 1


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _print(figures: dict[str, Any], indent: str = "") -> None:
    """Groups of figures, innermost ones on one line."""
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{indent}{name}: {_short(value)}")
        elif any(isinstance(inner, dict) for inner in value.values()):
            print(f"{indent}{name}")
            _print(value, indent + "  ")
        else:
            print(f"{indent}{name}: " + ", ".join(f"{key} {_short(inner)}" for key, inner in value.items()))


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
