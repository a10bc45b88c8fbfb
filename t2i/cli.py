"""`t2i generate | checkpoints | train`: the library from a terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from t2i.api import SAMPLERS, GenerationRequest, T2IError


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 for a failure told in one sentence, 2 for wrong arguments, 130 for Ctrl-C."""
    # Idle OpenMP threads that spin starve whoever shares the cores; torch reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except T2IError as error:
        print(f"t2i: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="t2i", description="Text to images, on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="draw pictures from a prompt"))
    _add_checkpoints(commands.add_parser("checkpoints", help="list the checkpoints or show one"))
    _add_train(commands.add_parser("train", help="make the embedded checkpoint"))
    return parser


# --- generate -------------------------------------------------------------------------------------------------------


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt")
    parser.add_argument("--negative", metavar="TEXT", help="what the pictures should not show")
    parser.add_argument("--checkpoint", default="embedded", help="a name or a folder (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sampler", choices=SAMPLERS)
    parser.add_argument("--respacing", metavar="SPEC", help="timesteps such as 27, 10,10,7, ddim25 or fast27")
    parser.add_argument("--guidance", type=float, metavar="SCALE")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="width and height")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("image.png"), help="the file; several images share one sheet")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object")
    parser.set_defaults(run=_generate)


def _generate(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    import t2i
    from t2i.api import validate
    from t2i.imaging.sheet import make_sheet

    request = GenerationRequest(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative,
        images=arguments.images,
        steps=arguments.steps,
        sampler=arguments.sampler,
        respacing=arguments.respacing,
        guidance_scale=arguments.guidance,
        seed=arguments.seed,
        width=arguments.size,
        height=arguments.size,
    )
    validate(request)
    if not arguments.out.parent.is_dir():
        raise T2IError(f"There is no folder {arguments.out.parent} to write to.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task("loading", total=None)
        pipeline = t2i.load(arguments.checkpoint, arguments.device)
        result = pipeline.generate(
            request, on_step=lambda step, steps: bar.update(row, description="drawing", completed=step, total=steps)
        )
    sheet = make_sheet(result.images)
    sheet.save(arguments.out, "PNG")
    settled = result.settled
    report = {
        "out": str(arguments.out),
        "prompt": request.prompt,
        "images": len(result.images),
        "width": settled.width,
        "height": settled.height,
        "seed": settled.seed,
        "seeds": result.seeds,
        "steps": settled.steps,
        "sampler": settled.sampler,
        "guidance_scale": settled.guidance_scale,
        "checkpoint": settled.checkpoint,
        "sha256": pipeline.info.sha256,
        "device": pipeline.device,
        "seconds": round(result.seconds, 3),
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{arguments.out}: seed {settled.seed}, {settled.steps} steps, {result.seconds:.1f} s")


# --- checkpoints ----------------------------------------------------------------------------------------------------


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="names and what they are")
    listing.add_argument("--dir", type=Path, help="a folder with further checkpoints")
    listing.set_defaults(run=_list_checkpoints)
    info = actions.add_parser("info", help="everything known about one, as JSON")
    info.add_argument("checkpoint")
    info.set_defaults(run=_show_checkpoint)


def _list_checkpoints(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import available, describe

    for name, folder in available(arguments.dir).items():
        info = describe(folder)
        print(f"{name:20} {info.parameters / 1e6:7.1f} M  {info.description}")


def _show_checkpoint(arguments: argparse.Namespace) -> None:
    import msgspec

    from t2i.checkpoints import describe, resolve

    info = describe(resolve(arguments.checkpoint))
    print(json.dumps(msgspec.to_builtins(info), indent=2))


# --- train ----------------------------------------------------------------------------------------------------------


def _add_train(parser: argparse.ArgumentParser) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
