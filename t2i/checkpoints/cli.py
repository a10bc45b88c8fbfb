"""`t2i checkpoints list | info | add | verify | convert`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from t2i.api import CheckpointError

_PRECISIONS = ("float32", "float16", "bfloat16")


def add_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="names and what they are")
    _add_folder(listing)
    listing.set_defaults(run=_list)
    info = actions.add_parser("info", help="everything known about one, as JSON")
    info.add_argument("checkpoint", help="a name, a folder or a file")
    _add_folder(info)
    info.set_defaults(run=_info)
    add = actions.add_parser("add", help="copy a checkpoint or a LoRA to the folder of checkpoints")
    add.add_argument("source", help="a folder, a .safetensors file, or a model of the hub such as org/name@revision")
    _add_folder(add, required=True)
    add.add_argument("--name", help="what it is called there (default: as it is)")
    add.add_argument(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="what the network predicts, where the file cannot tell",
    )
    add.set_defaults(run=_add)
    verify = actions.add_parser("verify", help="compare every file with its hash, and print every problem")
    verify.add_argument("checkpoint", help="a name, a folder or a file")
    _add_folder(verify)
    verify.set_defaults(run=_verify)
    convert = actions.add_parser("convert", help="write a single file, or a folder in another precision, as a folder")
    convert.add_argument("checkpoint", help="a name, a folder or a file")
    convert.add_argument("out", type=Path, help="the folder to write, which must not be there yet")
    convert.add_argument("--dtype", choices=_PRECISIONS, help="precision of the weights (default: as it is)")
    _add_folder(convert)
    convert.set_defaults(run=_convert)


def _add_folder(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument("--dir", type=Path, required=required, help="the folder of checkpoints")


def _list(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import available, describe

    for name, path in available(arguments.dir).items():
        try:
            info = describe(path)
        except CheckpointError as error:
            print(f"{name:20} {'':9}  cannot be loaded: {error}")
        else:
            print(f"{name:20} {info.parameters / 1e6:7.1f} M  {info.description}")


def _info(arguments: argparse.Namespace) -> None:
    import msgspec

    from t2i.checkpoints import describe, resolve

    info = describe(resolve(arguments.checkpoint, arguments.dir))
    print(json.dumps(msgspec.to_builtins(info), indent=2))


def _add(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints.add import add

    print(add(arguments.source, arguments.dir, arguments.name, prediction_type=arguments.prediction))


def _verify(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import resolve
    from t2i.checkpoints.detect import detect
    from t2i.checkpoints.files import verify

    path = resolve(arguments.checkpoint, arguments.dir)
    problems = verify(path)
    if not problems:
        detect(path)
        print(f"{path.name}: every file is as it should be")
        return
    for problem in problems:
        print(problem)
    raise CheckpointError(f"{path.name} has {len(problems)} problem{'s' if len(problems) > 1 else ''}.")


def _convert(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import resolve
    from t2i.checkpoints.convert import convert

    print(convert(resolve(arguments.checkpoint, arguments.dir), arguments.out, arguments.dtype))
