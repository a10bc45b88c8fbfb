"""T5's encoder: what diffusers' pipelines read of a prompt, and what they leave out of it."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from tokenizers.pre_tokenizers import Metaspace
from torch import Tensor
from transformers import T5Tokenizer

from t2i.checkpoints import tiny_latent as tiny
from t2i.families.t5 import T5Text

PROMPTS = ["a red apple", "", "an  oil painting, of a cat!"]
LENGTH = 32


@pytest.fixture(scope="module")
def sd3() -> StableDiffusion3Pipeline:
    return tiny.sd3()


@pytest.fixture(scope="module")
def flux() -> FluxPipeline:
    return tiny.flux()


@pytest.fixture(scope="module")
def text(flux: FluxPipeline) -> T5Text:
    return T5Text(flux.text_encoder_2, flux.tokenizer_2, LENGTH)


def close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).norm() <= 1e-6 * expected.norm())


@torch.no_grad()
def test_stable_diffusion_3_reads_the_same(sd3: StableDiffusion3Pipeline) -> None:
    expected = sd3._get_t5_prompt_embeds(PROMPTS, max_sequence_length=256)
    assert close(T5Text(sd3.text_encoder_3, sd3.tokenizer_3, 256).encode(PROMPTS).tokens, expected)


@torch.no_grad()
def test_flux_reads_the_same(flux: FluxPipeline) -> None:
    expected = flux._get_t5_prompt_embeds(PROMPTS, max_sequence_length=512)
    assert close(T5Text(flux.text_encoder_2, flux.tokenizer_2, 512).encode(PROMPTS).tokens, expected)


def test_a_weight_of_one_changes_nothing(text: T5Text) -> None:
    assert torch.equal(text.encode(["a (red:1) ([cat])"]).tokens, text.encode(["a red cat"]).tokens)


def test_weights_move_their_tokens_from_the_empty_prompt(text: T5Text) -> None:
    plain, empty = text.encode(["a red cat"]).tokens, text.encode([""]).tokens
    weighted = text.encode(["a (red:1.5) [cat]"]).tokens
    # Every word begins with a token of its own in this tokenizer.
    factors = torch.tensor([1, 1, *[1.5] * 4, *[1 / 1.1] * 4, *[1] * (LENGTH - 10)])[None, :, None]
    assert torch.allclose(weighted, empty + factors * (plain - empty), atol=1e-6)
    untouched = factors.flatten() == 1
    assert torch.equal(weighted[:, untouched], plain[:, untouched])


def test_the_space_before_a_word_does_not_weigh(flux: FluxPipeline) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁red", -1.0), ("▁cat", -1.0)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    # As in older tokenizer.json files: a word's piece is also of the space before it.
    tokenizer.backend_tokenizer.pre_tokenizer = Metaspace()
    plain, empty, weighted = (
        T5Text(flux.text_encoder_2, tokenizer, LENGTH).encode(["a red cat", "", "a (red:1.5) cat"]).tokens
    )
    assert torch.allclose(weighted[1], empty[1] + 1.5 * (plain[1] - empty[1]), atol=1e-6)
    assert torch.equal(weighted[2:], plain[2:])


@pytest.mark.parametrize(
    ("prompt", "sizes"),
    [
        ("x" * 30, [31]),
        ("x" * 31, [31, 1]),
        (f"{'x' * 26} {'y' * 10}", [27, 11]),
        (f"{'x' * 24}, y {'z' * 9}", [26, 12]),
        (f"{'x' * 10} {'y' * 30}", [31, 11]),
        (f"{'x' * 29} y z", [30, 4]),
    ],
)
def test_long_prompts_are_read_in_windows(flux: FluxPipeline, text: T5Text, prompt: str, sizes: list[int]) -> None:
    *ids, end = flux.tokenizer_2(prompt).input_ids
    rows = [[*window.tolist(), end, *[0] * (LENGTH - 1 - len(window))] for window in torch.tensor(ids).split(sizes)]
    with torch.no_grad():
        expected = flux.text_encoder_2(torch.tensor(rows)).last_hidden_state
    assert close(text.encode([prompt]).tokens[0], expected.flatten(0, 1))


def test_shorter_prompts_end_in_empty_windows(text: T5Text) -> None:
    _, short = text.encode(["x" * 90, "a red cat"]).tokens
    alone, empty = text.encode(["a red cat", ""]).tokens
    assert close(short, torch.cat([alone, empty, empty]))
