"""The judges themselves: each figure on pictures whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2i.evaluation.distance import frechet
from t2i.evaluation.judges import Judges
from t2i.evaluation.memorisation import Gallery
from t2i.evaluation.retrieval import r_precision
from t2i.evaluation.scenes import SIDE, Scenes
from t2i.evaluation.scorer import TINY, Scorer, get_scorer
from t2i.evaluation.study import Folders
from t2i.families.text import TextEncoder
from t2i.training.data import Art, load_folder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def arts(art: Path) -> list[Art]:
    return load_folder(art, SIDE)


@pytest.fixture(scope="module")
def scorer(arts: list[Art], folders: Folders) -> Scorer:
    text = TextEncoder(folders.data / "text_encoder", torch.device("cpu"))
    return get_scorer(arts, text, folders.scorers, TINY)


def test_a_scorer_knows_things_by_another_hand_and_is_trained_once(
    scorer: Scorer, arts: list[Art], folders: Folders
) -> None:
    real = load_folder(folders.data, SIDE)
    captions = scorer.read([art.label for art in real])
    vectors = scorer.see([art.pixels for art in real])
    assert r_precision(vectors, captions, range(len(real)))["R@1"] >= 5 / 6

    said: list[str] = []
    text = TextEncoder(folders.data / "text_encoder", torch.device("cpu"))
    again = get_scorer(arts, text, folders.scorers, TINY, said.append)
    assert not said
    assert torch.equal(again.see([art.pixels for art in real]), vectors)


def test_the_probes_are_right_about_real_pictures(scorer: Scorer, arts: list[Art], data: Path) -> None:
    judges = Judges(scorer, arts, learned=120)
    real = judges.on_real(load_folder(data, SIDE), 60)
    assert real["colours"] > 0.9
    assert real["counts"] > 0.8
    # Guessing is right in a quarter of all cases.
    assert real["beside"] > 0.5
    assert real["above"] > 0.5


def test_the_probes_are_wrong_about_pictures_of_something_else(scorer: Scorer, arts: list[Art]) -> None:
    judges = Judges(scorer, arts, learned=120)
    scenes = Scenes(arts, seed=9)
    for kind, compose in {"colours": scenes.tinted, "beside": scenes.beside, "counts": scenes.several}.items():
        pictures, asked = zip(*(compose() for _ in range(40)), strict=True)
        assert judges.right(kind, pictures[1:] + pictures[:1], asked) < 0.5, kind
    mirrored = [scenes.beside() for _ in range(40)]
    turned = [np.ascontiguousarray(scene.pixels[:, ::-1]) for scene in mirrored]
    assert judges.right("beside", turned, [scene.asked for scene in mirrored]) < 0.2


def test_r_precision_counts_how_many_captions_are_nearer() -> None:
    captions = torch.eye(30)
    pictures = torch.zeros(2, 30)
    pictures[0, 3] = 1.0  # its own caption is the nearest
    pictures[1] = torch.linspace(1, 0, 30)  # ten others are nearer than its own
    assert r_precision(pictures, captions, [3, 10]) == {"R@1": 0.5, "R@5": 0.5, "R@20": 1.0}


def test_the_frechet_distance_is_that_of_the_gaussians() -> None:
    random = np.random.default_rng(0)
    one = torch.from_numpy(random.normal(size=(4000, 3)))
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet(one, one + torch.tensor([3.0, 0, 4.0])) == pytest.approx(25)
    # Covariances C and 4 C: the trace of C + 4 C - 2 (2 C).
    spread = frechet(one - one.mean(0), 2 * (one - one.mean(0)))
    assert spread == pytest.approx(float(torch.cov(one.T).trace()))


def test_a_copy_is_found_mirrored_and_moved() -> None:
    random = np.random.default_rng(0)
    # Smooth ones, like pictures: noise has no neighbours.
    coarse = random.integers(0, 255, (20, 8, 8, 4), dtype=np.uint8)
    pictures = [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in coarse]
    for picture in pictures:
        picture[:4] = picture[-4:] = picture[:, :4] = picture[:, -4:] = 0
    gallery = Gallery(pictures)
    copy = np.roll(pictures[13][:, ::-1], (2, -3), (0, 1))
    found = gallery.nearest(copy)
    assert found.index == 13
    assert found.rmse == pytest.approx(0, abs=1e-6)
    assert Gallery(pictures[:13]).nearest(copy).rmse > 0.1
