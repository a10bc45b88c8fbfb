"""How many evasions the floor sees through, and how many innocent prompts it lets pass.

`python -m tests.bot.moderation.measure` writes the tables of docs/moderation.md, and which prompts are judged wrongly.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bot.errors import PromptRefused
from bot.moderation.floor import Floor
from bot.moderation.words import Reading

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Group:
    name: str
    prompts: list[str]
    refused: list[str]

    @property
    def passed(self) -> list[str]:
        return [prompt for prompt in self.prompts if prompt not in self.refused]


@dataclass(frozen=True)
class Measured:
    evasions: list[Group]
    innocent: list[Group]

    @property
    def recall(self) -> float:
        """Share of the evasions that are refused."""
        return _refused(self.evasions) / _count(self.evasions)

    @property
    def precision(self) -> float:
        """Share of what is refused that is an evasion."""
        return _refused(self.evasions) / (_refused(self.evasions) + _refused(self.innocent))

    @property
    def passing(self) -> float:
        """Share of the innocent prompts that are not refused."""
        return 1 - _refused(self.innocent) / _count(self.innocent)


def measure() -> Measured:
    floor = Floor()

    def groups(name: str) -> list[Group]:
        corpus: dict[str, list[str]] = json.loads((CORPUS / f"{name}.json").read_text())
        return [
            Group(group, prompts, [prompt for prompt in prompts if _is_refused(floor, prompt)])
            for group, prompts in corpus.items()
        ]

    return Measured(groups("evasions"), groups("innocent"))


def _is_refused(floor: Floor, prompt: str) -> bool:
    try:
        floor.check(Reading.of(prompt))
    except PromptRefused:
        return True
    return False


def _refused(groups: list[Group]) -> int:
    return sum(len(group.refused) for group in groups)


def _count(groups: list[Group]) -> int:
    return sum(len(group.prompts) for group in groups)


def report(measured: Measured) -> str:
    lines = []
    for title, groups in (("Evasions", measured.evasions), ("Innocent prompts", measured.innocent)):
        lines += [f"| {title} | prompts | refused |", "|---|---:|---:|"]
        lines += [f"| {group.name} | {len(group.prompts)} | {len(group.refused)} |" for group in groups]
        lines += [f"| together | {_count(groups)} | {_refused(groups)} |", ""]
    shares = {
        "recall": measured.recall,
        "precision": measured.precision,
        "innocent prompts that pass": measured.passing,
    }
    lines += [", ".join(f"{name} {share:.1%}" for name, share in shares.items()), ""]
    lines += ["Evasions that pass:", *(f"  {prompt!r}" for group in measured.evasions for prompt in group.passed), ""]
    lines += ["Innocent, but refused:", *(f"  {prompt!r}" for group in measured.innocent for prompt in group.refused)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report(measure()) + "\n")
