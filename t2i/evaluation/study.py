"""The whole evaluation: what is drawn, how it is judged, and beside every figure what real pictures get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from t2i.evaluation import prompts, sheets
from t2i.evaluation.distance import frechet
from t2i.evaluation.drawing import Artist
from t2i.evaluation.gates import Gate, check
from t2i.evaluation.judges import Judges
from t2i.evaluation.memorisation import LEVEL, Gallery, aligned_rmse
from t2i.evaluation.retrieval import r_precision
from t2i.evaluation.scenes import SIDE, Asked, blank, to_pixels
from t2i.evaluation.scorer import TINY, Recipe, Say, Scorer, get_scorer, stack
from t2i.families.collage import Pixels
from t2i.families.pipeline import AnyModel
from t2i.families.text import TextEncoder
from t2i.training.data import Art, load_folder

SEED = 20_000
SEEN = "seen"
"""The kind of prompt that names one thing of the training art; the others are those of `prompts.composed`."""
_COLUMNS, _PAIRS_SHOWN = 8, 12
Figures = dict[str, Any]
Album = dict[str, list[Pixels]]
"""Pictures by kind of prompt."""


class Folders(NamedTuple):
    """Real pictures, laid out as training data: `data`, which the checkpoint learned from, and `art`, by other hands,
    which it never saw. Trained scorers are kept in `scorers`."""

    data: Path
    art: Path
    scorers: Path


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is drawn and composed: `labels` of the training art, at most `each` prompts of every other kind, those
    `repeats` times; `learned` and `tested` scenes for each probe, `grid` prompts, `tries` at each time."""

    labels: int = 300
    each: int = 100
    repeats: int = 2
    learned: int = 1500
    tested: int = 300
    grid: int = 40
    tries: int = 3
    recipe: Recipe = field(default_factory=Recipe)


QUICK = Effort(labels=4, each=3, repeats=1, learned=30, tested=10, grid=2, tries=1, recipe=TINY)
"""To try the command, not the checkpoint."""


@dataclass(frozen=True, slots=True)
class Findings:
    figures: Figures
    gates: list[Gate]
    grid: Image.Image
    nearest: Image.Image
    """The drawn pictures that are nearest to training pictures, each followed by that one."""


def evaluate(model: AnyModel, folders: Folders, effort: Effort, say: Say) -> Findings:
    """Judge a checkpoint. Raises DatasetError where a folder is not what it should be."""
    seen, unseen = load_folder(folders.data, SIDE), load_folder(folders.art, SIDE)
    text = TextEncoder(folders.data / "text_encoder", torch.device("cpu"))
    scorer = get_scorer(unseen, text, folders.scorers, effort.recipe, say)
    say("testing the judges on real pictures")
    judges = Judges(scorer, unseen, effort.learned)
    known = _known(seen, unseen)
    chosen = _choose(known, effort.labels)
    asked = {SEEN: prompts.of_labels([art.label for art in chosen])}
    asked |= {kind: effort.repeats * some[: effort.each] for kind, some in prompts.composed().items()}

    artist = Artist(model)
    drawn: Album = {}
    collages: Album = {}
    for number, (kind, some) in enumerate(asked.items()):
        say(f"drawing {len(some)} pictures: {kind}")
        lines, seed = [one.prompt for one in some], SEED + 1000 * number
        drawn[kind] = [to_pixels(image) for image in artist.draw(lines, artist.small, seed)]
        collages[kind] = [to_pixels(one) if one else blank() for one in artist.collages(lines, seed)]

    albums = {"drawn": drawn}
    if any(pixels.any() for pictures in collages.values() for pixels in pictures):
        albums["collage"] = collages
    say("measuring")
    copies, sheet = _memorisation(albums, seen)
    figures: Figures = {
        "checkpoint": artist.info.name,
        "sha256": artist.info.sha256,
        "seen labels": _seen(scorer, albums, chosen, known),
        "held-out combinations": _held_out(scorer, albums, asked, known),
        "attributes": _attributes(judges, albums, asked, judges.on_real(seen, effort.tested)),
        "distance": _distances(scorer, albums, chosen, seen),
        "memorisation": copies,
        "seconds for four pictures": {
            str(size): artist.seconds(size, effort.tries) for size in (artist.small, artist.large)
        },
    }
    say("drawing the grid")
    lines = prompts.grid()[: effort.grid]
    grid = sheets.labelled(artist.draw(lines, artist.large, SEED), lines, _COLUMNS)
    return Findings(figures, _gates(figures, artist), grid, sheet)


def _known(seen: Sequence[Art], unseen: Sequence[Art]) -> list[Art]:
    """The training art whose labels the scorer knows, one of each."""
    labels = {art.label for art in unseen}
    return list({art.label: art for art in seen if art.label in labels}.values())


def _choose(arts: list[Art], count: int) -> list[Art]:
    chosen = np.random.default_rng(SEED).permutation(len(arts))[:count]
    return [arts[index] for index in sorted(chosen)]


def _seen(scorer: Scorer, albums: dict[str, Album], chosen: Sequence[Art], known: Sequence[Art]) -> Figures:
    """R-precision over all labels that the scorer knows; of real pictures, and of real pictures of something else."""
    captions = scorer.read([art.label for art in known])
    labels = [art.label for art in known]
    own = [labels.index(art.label) for art in chosen]
    pictures = {name: scorer.see(album[SEEN]) for name, album in albums.items()}
    pictures["real"] = scorer.see([art.pixels for art in chosen])
    figures: Figures = {"labels": len(known), "pictures": len(chosen)}
    figures |= {name: r_precision(vectors, captions, own) for name, vectors in pictures.items()}
    return figures | {"shuffled": r_precision(pictures["real"], captions, own[1:] + own[:1])}


def _held_out(scorer: Scorer, albums: dict[str, Album], asked: dict[str, list[Asked]], known: Sequence[Art]) -> Figures:
    """R-precision of the prompts that training composed nothing of, among themselves and all labels."""
    lines = [one.prompt for kind in prompts.HELD_OUT for one in asked[kind]]
    distinct = list(dict.fromkeys(lines))
    captions = scorer.read([*distinct, *(art.label for art in known)])
    own = [distinct.index(line) for line in lines]
    return {
        name: r_precision(scorer.see([one for kind in prompts.HELD_OUT for one in album[kind]]), captions, own)
        for name, album in albums.items()
    }


def _attributes(
    judges: Judges, albums: dict[str, Album], asked: dict[str, list[Asked]], real: dict[str, float]
) -> Figures:
    return {
        kind: {name: judges.right(kind, album[kind], asked[kind]) for name, album in albums.items()} | {"real": share}
        for kind, share in real.items()
    }


def _distances(scorer: Scorer, albums: dict[str, Album], chosen: Sequence[Art], seen: Sequence[Art]) -> Figures:
    """Fréchet distances to the training art; of the same things by other hands too, where the training data has any."""
    training = scorer.features([art.pixels for art in seen])
    sets = {name: album[SEEN] for name, album in albums.items()} | {"real": [art.pixels for art in chosen]}
    if others := [art.by_others[0] for art in chosen if art.by_others]:
        sets["by other hands"] = others
    return {name: frechet(scorer.features(pictures), training) for name, pictures in sets.items()}


def _memorisation(albums: dict[str, Album], seen: Sequence[Art]) -> tuple[Figures, Image.Image]:
    """How near the nearest training picture is to each drawn one, and to its collage."""
    training = [pixels for art in seen for pixels in (art.pixels, *art.by_others)]
    labels = [art.label for art in seen for _ in range(1 + len(art.by_others))]
    gallery = Gallery(training)
    matches = {
        name: [gallery.nearest(pixels) for pictures in album.values() for pixels in pictures]
        for name, album in albums.items()
    }
    rmse = {name: np.array([match.rmse for match in found]) for name, found in matches.items()}
    figures: Figures = {name: _spread(values) for name, values in rmse.items()}
    pictures, *collages = ([pixels for some in album.values() for pixels in some] for album in albums.values())
    same = [float(aligned_rmse(stack([art.pixels])[0], stack([other]))) for art in seen for other in art.by_others[:1]]
    if same:
        figures["training pictures of one thing"] = _spread(np.array(same))
    if collages:
        # What is farther than pictures of one thing by two hands is like none of them, and no copy.
        near = rmse["drawn"] < min(same, default=np.inf)
        nearer = near & (rmse["drawn"] < rmse["collage"] - LEVEL) & [bool(pixels.any()) for pixels in collages[0]]
        figures["nearer than their collages"] = int(nearer.sum())
    shown = []
    for index in np.argsort(rmse["drawn"])[:_PAIRS_SHOWN]:
        match = matches["drawn"][index]
        shown += [(pictures[index], f"{match.rmse:.3f} from"), (training[match.index], labels[match.index])]
    images = [Image.fromarray(pixels, "RGBa").convert("RGBA") for pixels, _ in shown]
    return figures, sheets.labelled(images, [label for _, label in shown], _COLUMNS)


def _spread(values: np.ndarray) -> Figures:
    names = {"least": 0, "5 %": 5, "median": 50}
    return {name: float(np.percentile(values, share)) for name, share in names.items()}


def _gates(figures: Figures, artist: Artist) -> list[Gate]:
    attributes = {kind: found["drawn"] for kind, found in figures["attributes"].items()}
    sides = (attributes["beside"] + attributes["above"]) / 2
    values = {
        "R@5 over seen labels": figures["seen labels"]["drawn"]["R@5"],
        "colours": attributes["colours"],
        "layout": (attributes["worn"] + sides + attributes["counts"]) / 3,
        "seconds, small": figures["seconds for four pictures"][str(artist.small)],
        "seconds, large": figures["seconds for four pictures"][str(artist.large)],
    }
    copies = figures["memorisation"].get("nearer than their collages")
    if copies is not None:
        values["nearer to training art than their collages"] = copies
    return [check(name, value) for name, value in values.items()]
