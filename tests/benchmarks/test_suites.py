"""`t2i bench` as a whole: limits, exit codes, resumed parts, and one run on networks that draw nothing."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import suites
from benchmarks.gates import Gate, at_least, at_most
from t2i import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The CPU suite's report of the tiny cascade, with its exit code and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["bench", "--suite", "cpu", "--small", "--json", str(folder / "out.json"), "--plots", str(folder)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small networks gain nothing from more
    code = cli.main(arguments)
    torch.set_num_threads(threads)
    return {"code": code, "folder": folder, **json.loads((folder / "out.json").read_text())}


def test_a_run_reports_what_every_benchmark_does(run: dict[str, Any]) -> None:
    assert run.keys() >= {"device", "versions", "seed", "seconds", "figures", "gates"}
    assert all(gate.keys() == {"name", "value", "limit", "ok"} for gate in run["gates"])
    assert run["code"] == (0 if all(gate["ok"] for gate in run["gates"]) else 1)


def test_the_pictures_are_those_of_diffusers(run: dict[str, Any]) -> None:
    (gate,) = (gate for gate in run["gates"] if gate["name"].startswith("pictures in float32"))
    assert gate["ok"]
    assert 0 < gate["value"] <= 1e-4


def test_every_arm_drew_every_job(run: dict[str, Any]) -> None:
    found = run["figures"]["embedded"]
    assert found["saturation"]["1"].keys() == {"diffusers", "whole jobs", "ours", "static batches", "ours, exact"}
    assert found["latency"]["1"]["loads"].keys() == {"0.5", "0.7", "0.95", "1.5"}
    for arm in ("whole jobs", "ours"):
        assert found["checked"]["real"][arm]["jobs"] == suites.SMALL.checked
        assert found["checked"]["real"][arm]["latency"]["mean"] > 0


def test_pictures_of_the_figures_are_drawn(run: dict[str, Any]) -> None:
    drawn = {file.name for file in run["folder"].glob("*.png")}
    assert drawn == {f"cpu-embedded-{kind}.png" for kind in ("steps", "load-1", "classes-1", "load-4", "classes-4")}


def test_a_figure_beyond_its_limit_is_told_and_not_hidden(run: dict[str, Any]) -> None:
    figures = copy.deepcopy(run["figures"]["embedded"])
    figures["preview_share"] = 0.02
    assert _gate(figures, "previews").ok
    figures["preview_share"] = 0.04
    assert _gate(figures, "previews") == Gate("previews: share of the time, at most", 0.04, 0.03, False)


def _gate(figures: dict[str, Any], name: str) -> Gate:
    (gate,) = (gate for gate in suites.cpu_gates(figures) if gate.name.startswith(name))
    return gate


def test_a_limit_holds_on_itself() -> None:
    assert at_most("time", 3.0, 3.0).ok
    assert at_least("speed", 3.0, 3.0).ok
    assert not at_most("time", 3.1, 3.0).ok
    assert not at_least("speed", 2.9, 3.0).ok


def test_a_part_that_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def parts(broken: bool) -> dict[str, suites.Part]:
        def part(name: str) -> tuple[dict[str, Any], list[Gate]]:
            if broken and name == "two":
                raise KeyboardInterrupt
            measured.append(name)
            return {"saturation": {}}, [at_most(name, 1.0, 2.0 if name == "one" else 0.5)]

        return {name: lambda name=name: part(name) for name in ("one", "two")}

    def suite(*, broken: bool) -> int:
        monkeypatch.setattr(suites, "gpu", lambda *_, **__: parts(broken))
        return suites.run("gpu", tmp_path / "out.json", None, small=True, say=lambda _: None)

    with pytest.raises(KeyboardInterrupt):
        suite(broken=True)
    assert not (tmp_path / "out.json").exists()
    assert suite(broken=False) == 1
    assert measured == ["one", "two"]
    assert [gate["ok"] for gate in json.loads((tmp_path / "out.json").read_text())["gates"]] == [True, False]
    # Tiny networks say nothing of others.
    assert suites.run("gpu", tmp_path / "out.json", None, small=False, say=lambda _: None) == 1
    assert measured == ["one", "two", "one", "two"]


def test_without_the_repository_it_says_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    assert cli.main(["bench", "--suite", "cpu"]) == 1
    told = capsys.readouterr().err
    assert told == "t2i: The benchmark is not part of an installed package: run it where the repository is.\n"
