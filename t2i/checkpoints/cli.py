"""`t2i checkpoints list | info | add | remove | verify | convert`."""

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
    remove = actions.add_parser("remove", help="delete a checkpoint or a LoRA from the folder of checkpoints")
    remove.add_argument("name")
    remove.add_argument("--lora", action="store_true", help="the name is that of a LoRA")
    _add_folder(remove, required=True)
    remove.set_defaults(run=_remove)
    verify = actions.add_parser("verify", help="compare every file with its hash, and print every problem")
    verify.add_argument("checkpoint", nargs="?", help="a name, a folder or a file (default: each there is)")
    verify.add_argument("--json", action="store_true", help="print one object with the problems by name")
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
    from t2i.checkpoints.shelf import survey

    shelf = survey(arguments.dir)
    for info in shelf.checkpoints:
        print(f"{info.name:20} {info.parameters / 1e6:7.1f} M  {info.description}")
    for lora in shelf.loras:
        print(f"{lora.name:20} {lora.size / 1e6:7.1f} MB LoRA for {lora.family or 'an unknown family'}")
    for damaged in shelf.damaged:
        print(f"{damaged.name:20} {'':9}  cannot be loaded: {damaged.problem}")


def _info(arguments: argparse.Namespace) -> None:
    import msgspec

    from t2i.checkpoints import describe, resolve

    info = describe(resolve(arguments.checkpoint, arguments.dir))
    print(json.dumps(msgspec.to_builtins(info), indent=2))


def _add(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints.add import add
    from t2i.checkpoints.progress import shown

    with shown() as tell:
        added = add(arguments.source, arguments.dir, arguments.name, prediction_type=arguments.prediction, tell=tell)
    print(added)


def _remove(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints.shelf import remove

    remove(arguments.name, arguments.dir, lora=arguments.lora)
    print(f"{arguments.name} is deleted")


def _verify(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import available, resolve

    wanted = [arguments.checkpoint] if arguments.checkpoint else list(available(arguments.dir))
    problems = {Path(name).name: _problems(resolve(name, arguments.dir)) for name in wanted}
    if arguments.json:
        print(json.dumps(problems))
    else:
        for name, sentences in problems.items():
            print("\n".join(sentences) or f"{name}: every file is as it should be")
    if count := sum(map(len, problems.values())):
        what = arguments.checkpoint or "The folder"
        raise CheckpointError(f"{Path(what).name} has {count} problem{'s' if count > 1 else ''}.")


def _problems(path: Path) -> list[str]:
    from t2i.checkpoints.detect import detect
    from t2i.checkpoints.files import verify
    from t2i.checkpoints.progress import shown

    try:
        with shown() as tell:
            problems = verify(path, tell)
        if not problems:
            detect(path)
    except CheckpointError as error:
        problems = [str(error)]
    return problems


def _convert(arguments: argparse.Namespace) -> None:
    from t2i.checkpoints import resolve
    from t2i.checkpoints.convert import convert

    print(convert(resolve(arguments.checkpoint, arguments.dir), arguments.out, arguments.dtype))
