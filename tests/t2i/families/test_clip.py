"""CLIP's text encoders: what diffusers' pipelines read of a prompt, and what they leave out of it."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from t2i.checkpoints import tiny_latent as tiny
from t2i.families.clip import ClipText, encode_with_each

PROMPTS = ["a red apple", "", "an  oil painting, of a cat!", "x" * 75]
LENGTH = 77


@pytest.fixture(scope="module")
def stable_diffusion() -> StableDiffusionPipeline:
    return tiny.stable_diffusion()


@pytest.fixture(scope="module")
def sdxl() -> StableDiffusionXLPipeline:
    return tiny.sdxl()


@pytest.fixture(scope="module")
def sd3() -> StableDiffusion3Pipeline:
    return tiny.sd3()


@pytest.fixture(scope="module")
def flux() -> FluxPipeline:
    return tiny.flux()


@pytest.fixture(scope="module")
def text(stable_diffusion: StableDiffusionPipeline) -> ClipText:
    return ClipText(stable_diffusion.text_encoder, stable_diffusion.tokenizer)


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= 1e-6 * expected.norm())


@torch.no_grad()
def test_stable_diffusion_reads_the_same(stable_diffusion: StableDiffusionPipeline, text: ClipText) -> None:
    expected, negative = stable_diffusion.encode_prompt(PROMPTS, "cpu", 1, True, negative_prompt=PROMPTS[::-1])
    assert close(text.encode(PROMPTS).tokens, expected)
    assert close(text.encode(PROMPTS[::-1]).tokens, negative)


@torch.no_grad()
def test_sdxl_reads_the_same(sdxl: StableDiffusionXLPipeline) -> None:
    expected, _, pooled, _ = sdxl.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
    one = ClipText(sdxl.text_encoder, sdxl.tokenizer, penultimate=True).encode(PROMPTS)
    two = ClipText(sdxl.text_encoder_2, sdxl.tokenizer_2, penultimate=True).encode(PROMPTS)
    assert close(torch.cat([one.tokens, two.tokens], -1), expected)
    assert close(two.pooled, pooled)


@torch.no_grad()
def test_stable_diffusion_3_reads_the_same(sd3: StableDiffusion3Pipeline) -> None:
    expected, _, pooled, _ = sd3.encode_prompt(
        PROMPTS, None, None, device="cpu", do_classifier_free_guidance=False, max_sequence_length=16
    )
    texts = encode_with_each(
        [
            ClipText(sd3.text_encoder, sd3.tokenizer, penultimate=True),
            ClipText(sd3.text_encoder_2, sd3.tokenizer_2, penultimate=True),
        ],
        PROMPTS,
    )
    assert close(torch.cat([states.tokens for states in texts], -1), expected[:, :LENGTH])
    assert close(torch.cat([states.pooled for states in texts], -1), pooled)


@torch.no_grad()
def test_flux_reads_the_same_vector(flux: FluxPipeline) -> None:
    _, expected, _ = flux.encode_prompt(PROMPTS, None, device="cpu", max_sequence_length=16)
    pooled = ClipText(flux.text_encoder, flux.tokenizer).encode(PROMPTS).pooled
    assert close(pooled, expected)


def test_a_weight_of_one_changes_nothing(text: ClipText) -> None:
    plain, weighted = text.encode(["a red cat"]), text.encode(["a (red:1) ([cat])"])
    assert torch.equal(plain.tokens, weighted.tokens)


def test_weights_move_their_tokens_from_the_empty_prompt(text: ClipText) -> None:
    plain, empty = text.encode(["a red cat"]), text.encode([""]).tokens
    weighted = text.encode(["a (red:1.5) [cat]"])
    factors = torch.tensor([1, 1, *[1.5] * 3, *[1 / 1.1] * 3, *[1] * (LENGTH - 8)])[None, :, None]
    assert torch.allclose(weighted.tokens, empty + factors * (plain.tokens - empty), atol=1e-6)
    untouched = factors.flatten() == 1
    assert torch.equal(weighted.tokens[:, untouched], plain.tokens[:, untouched])
    assert torch.equal(weighted.pooled, plain.pooled)


def test_a_token_of_several_weights_has_their_mean(stable_diffusion: StableDiffusionPipeline) -> None:
    words = [*(chr(code) + "</w>" for code in range(33, 127)), *(chr(code) for code in range(33, 126))]
    vocabulary = {word: index for index, word in enumerate([*words, "cat</w>", "ca", tiny.START, tiny.END])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")], model_max_length=77)
    model = CLIPTextModel(tiny.clip_text_config(vocab_size=len(vocabulary), eos_token_id=vocabulary[tiny.END])).eval()
    text = ClipText(model, tokenizer)
    assert torch.equal(text.encode(["(ca:1.6)t"]).tokens, text.encode(["(cat:1.4)"]).tokens)


def test_escaped_brackets_are_read(stable_diffusion: StableDiffusionPipeline, text: ClipText) -> None:
    expected, _ = stable_diffusion.encode_prompt("cat (black)", "cpu", 1, False)
    assert close(text.encode([r"cat \(black\)"]).tokens, expected)


@pytest.mark.parametrize(
    ("prompt", "sizes"),
    [
        ("x" * 75, [75]),
        ("x" * 76, [75, 1]),
        (f"{'x' * 70} {'y' * 10}", [70, 10]),
        (f"{'x' * 75} {'y' * 75}", [75, 75]),
        (f"{'x' * 60}, {'y' * 9} {'z' * 9}", [61, 18]),
        (f"{'x' * 60},{'y' * 18}", [61, 18]),
        (f"{'x' * 40}, {'y' * 60}", [75, 26]),
        (f"{'x' * 70} " * 3, [70, 70, 70]),
    ],
)
def test_long_prompts_are_cut_at_commas_or_between_words(
    stable_diffusion: StableDiffusionPipeline, text: ClipText, prompt: str, sizes: list[int]
) -> None:
    start, *ids, end = stable_diffusion.tokenizer(prompt).input_ids
    windows = torch.tensor(ids).split(sizes)
    rows = [[start, *window.tolist(), *[end] * (LENGTH - 1 - len(window))] for window in windows]
    with torch.no_grad():
        expected = stable_diffusion.text_encoder(torch.tensor(rows)).last_hidden_state
    assert close(text.encode([prompt]).tokens[0], expected.flatten(0, 1))


def test_windows_are_read_each_by_itself(text: ClipText) -> None:
    first, second = f"{'x' * 70},", "a red cat"
    both = text.encode([f"{first} {second}"])
    alone = text.encode([first, second])
    assert close(both.tokens[0], alone.tokens.flatten(0, 1))
    assert close(both.pooled[0], alone.pooled[0])


def test_weights_reach_later_windows(text: ClipText) -> None:
    both = text.encode([f"{'x' * 70}, a (red:1.5) cat"])
    assert close(both.tokens[0, LENGTH:], text.encode(["a (red:1.5) cat"]).tokens[0])


def test_shorter_prompts_end_in_empty_windows(text: ClipText) -> None:
    long, short = text.encode(["x" * 160, "a red cat"]).tokens
    assert len(long) == len(short) == 3 * LENGTH
    alone, empty = text.encode(["a red cat", ""]).tokens
    assert close(short, torch.cat([alone, empty, empty]))


def test_two_encoders_have_as_many_windows_as_either_needs(sdxl: StableDiffusionXLPipeline) -> None:
    # The second tokenizer pads with "!", which nothing is merged with then.
    words = [*(chr(code) for code in range(33, 126)), "!!", *(chr(code) + "</w>" for code in range(33, 127))]
    vocabulary = {word: index for index, word in enumerate([*words, tiny.START, tiny.END])}
    merging = CLIPTokenizer(vocab=vocabulary, merges=[("!", "!")], model_max_length=77)
    encoders = [ClipText(sdxl.text_encoder, merging), ClipText(sdxl.text_encoder_2, sdxl.tokenizer_2)]
    prompt = "!" * 80
    assert [encoder.count([prompt]) for encoder in encoders] == [1, 2]
    first, second = encode_with_each(encoders, [prompt])
    assert first.tokens.shape == second.tokens.shape == (1, 2 * LENGTH, tiny.WIDTH)
