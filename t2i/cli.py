"""`t2i generate | checkpoints | train | evaluate | verify | bench`: the library from a terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from t2i.api import SAMPLERS, GenerationRequest, InvalidRequest, Lora, T2IError
from t2i.checkpoints import cli as checkpoints
from t2i.evaluation import cli as evaluation
from t2i.provenance import cli as provenance
from t2i.training import cli as training

DTYPES = ("auto", "float32", "float16", "bfloat16")
_OUTPAINT_MULTIPLE = 16
"""Pixels; every family draws sides of such a multiple."""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 for a failure told in one sentence, 2 for wrong arguments, 130 for Ctrl-C."""
    # Idle OpenMP threads that spin starve whoever shares the cores; torch reads this when it is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # It advises to install what nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    arguments = _parser().parse_args(argv)
    try:
        code: int | None = arguments.run(arguments)
    except T2IError as error:
        print(f"t2i: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="t2i", description="Text to images, on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="draw pictures from a prompt"))
    checkpoints.add_commands(
        commands.add_parser("checkpoints", help="list, add, remove, verify or convert checkpoints")
    )
    training.add_commands(commands.add_parser("train", help="make the embedded checkpoint"))
    evaluation.add_options(commands.add_parser("evaluate", help="judge a checkpoint by real pictures it never saw"))
    provenance.add_options(commands.add_parser("verify", help="tell whether pictures were made by this bot"))
    _add_bench(commands.add_parser("bench", help="measure this machine against diffusers and whole-job queues"))
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="what to draw; (word:1.3) counts more, [word] less")
    parser.add_argument("--negative", metavar="TEXT", help="what the pictures should not show")
    parser.add_argument("--images", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sampler", choices=SAMPLERS)
    parser.add_argument("--eta", type=float, help="noise that the sampler ddim adds, 0 to 1")
    parser.add_argument("--respacing", metavar="SPEC", help="timesteps such as 27, 10,10,7, ddim25 or fast27")
    parser.add_argument("--guidance", type=float, metavar="SCALE")
    parser.add_argument("--guidance-rescale", type=float, metavar="SHARE", help="contrast to take back, 0 to 1")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="width and height")
    parser.add_argument("--width", type=int, metavar="PIXELS")
    parser.add_argument("--height", type=int, metavar="PIXELS")
    parser.add_argument("--tile", action="store_true", help="let opposite edges continue each other")
    parser.add_argument("--out", type=Path, default=Path("image.png"), help="the file; several images share one sheet")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object")
    _add_picture(parser.add_argument_group("starting from a picture"))
    _add_model(parser.add_argument_group("the model"))
    parser.set_defaults(run=_generate)


def _add_picture(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--image", type=Path, metavar="FILE", help="the picture")
    group.add_argument("--strength", type=float, help="how much of it is drawn anew, 0 to 1")
    group.add_argument("--mask", type=Path, metavar="FILE", help="a picture of its size: white is drawn anew")
    group.add_argument(
        "--outpaint", type=_sides, metavar="L,T,R,B", help="pixels to draw beyond its left, top, right and bottom"
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", default="embedded", help="a name, a folder, a file or a hub id")
    group.add_argument("--checkpoints-dir", type=Path, metavar="DIR", help="where names are looked up")
    group.add_argument(
        "--lora", type=_lora, action="append", default=[], metavar="NAME[:WEIGHT]", help="may be repeated"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    group.add_argument("--dtype", default="auto", choices=DTYPES, help="precision (default: %(default)s)")
    group.add_argument("--text-device", metavar="DEVICE", help="where the text encoders work, if elsewhere")
    group.add_argument("--vae-device", metavar="DEVICE", help="where the autoencoder works, if elsewhere")
    group.add_argument("--offload", action="store_true", help="keep only what works on the device, for small cards")


def _lora(text: str) -> Lora:
    name, _, weight = text.rpartition(":")
    return Lora(name, float(weight)) if name else Lora(text)


def _sides(text: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = (int(part) for part in text.split(","))
    return left, top, right, bottom


def _generate(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    import t2i
    from t2i.api import validate
    from t2i.imaging.sheet import make_sheet

    image, mask = _starting_picture(arguments)
    # A LoRA may be named by its file, as a checkpoint may.
    lora_files = {Path(lora.name).stem: Path(lora.name) for lora in arguments.lora if Path(lora.name).is_file()}
    request = GenerationRequest(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative,
        images=arguments.images,
        steps=arguments.steps,
        sampler=arguments.sampler,
        respacing=arguments.respacing,
        guidance_scale=arguments.guidance,
        seed=arguments.seed,
        width=arguments.width or arguments.size,
        height=arguments.height or arguments.size,
        image=image,
        mask=mask,
        strength=arguments.strength,
        tile=arguments.tile,
        loras=tuple(Lora(Path(lora.name).stem, lora.weight) for lora in arguments.lora),
        eta=arguments.eta,
        guidance_rescale=arguments.guidance_rescale,
    )
    validate(request)
    if not arguments.out.parent.is_dir():
        raise T2IError(f"There is no folder {arguments.out.parent} to write to.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task("loading", total=None)
        pipeline = t2i.load(
            arguments.checkpoint,
            arguments.device,
            dtype=arguments.dtype,
            text_device=arguments.text_device,
            vae_device=arguments.vae_device,
            offload=arguments.offload,
            checkpoints_dir=arguments.checkpoints_dir,
        )
        for name, file in lora_files.items():
            pipeline.add_lora(name, file)
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


def _starting_picture(arguments: argparse.Namespace) -> tuple[bytes | None, bytes | None]:
    """The files of the picture and of the mask; of an outpainting, what it makes of the picture."""
    if arguments.outpaint is None:
        return _read(arguments.image), _read(arguments.mask)
    from t2i.imaging.canvas import extend
    from t2i.imaging.decode import decode_picture
    from t2i.imaging.encode import encode_png

    if arguments.image is None or arguments.mask is not None:
        raise InvalidRequest("outpaint", "Outpainting needs a picture to go beyond (--image), and makes its own mask.")
    picture, mask = extend(
        decode_picture(_read(arguments.image) or b""), *arguments.outpaint, multiple=_OUTPAINT_MULTIPLE
    )
    return encode_png(picture), encode_png(mask)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", choices=("cpu", "gpu"), required=True, help="what to measure, and on what")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure; gpu resumes from beside it")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the figures")
    parser.add_argument("--small", action="store_true", help="tiny networks and few jobs, to try the suite itself")
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    """The exit code says whether every gate holds."""
    for file in (arguments.json, arguments.plots):
        if file and not file.absolute().parent.is_dir():
            raise T2IError(f"There is no folder {file.parent} to write to.")
    try:
        from benchmarks import suites
    except ModuleNotFoundError as error:
        if error.name != "benchmarks":
            raise
        raise T2IError("The benchmark is not part of an installed package: run it where the repository is.") from error

    def say(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    return suites.run(arguments.suite, arguments.json, arguments.plots, small=arguments.small, say=say)


def _read(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise T2IError(f"{file} cannot be read: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
