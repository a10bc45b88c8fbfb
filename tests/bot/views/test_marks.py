"""Finished files carry their marks and credentials down the whole ladder of encodings."""

from __future__ import annotations

from typing import Any

import pytest

from bot.jobs.editing import ENCODINGS
from bot.prompt.options import JobOptions
from bot.views.job import render
from t2i.provenance import Certificate, Origin, Signer, create, verify
from tests.bot.views.examples import EMBEDDED, done, picture


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return create(tmp_path_factory.mktemp("certificate"), "Our Server")


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_every_encoding_says_what_drew_it_and_proves_it(encoding: Any, certificate: Certificate) -> None:
    snapshot = done(2, options=JobOptions(prompt="a red apple", negative_prompt="worms", images=2))
    images = {index: picture(1300 if index else 64) for index in range(2)}
    for number, file in enumerate(render(snapshot, images, encoding, EMBEDDED, Signer(certificate)).files):
        finding = verify(file.fp.read(), certificate.roots)
        assert finding.origin is Origin.MADE_HERE
        assert finding.text == (
            "a red apple\nNegative prompt: worms\nSteps: 30, Sampler: dpmpp_2m, CFG scale: 3, "
            f"Seed: {7 + number}, Size: 64x64, Model: embedded, Model hash: 0123456789ab, Job: 42"
        )


async def test_without_a_certificate_the_marks_are_there_all_the_same() -> None:
    (file,) = render(done(1), {0: picture()}, info=EMBEDDED).files
    finding = verify(file.fp.read(), "")
    assert (finding.origin, finding.text is not None) == (Origin.EDITED, True)
