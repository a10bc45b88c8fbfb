"""The cascade's text encoder: short prompts as it was trained on them, long and weighted ones besides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel

from t2i.families.text import MAX_TOKENS, TextEncoder, dequantize


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint / "text_encoder"


@pytest.fixture(scope="module")
def text(folder: Path) -> TextEncoder:
    return TextEncoder(folder, torch.device("cpu"))


@pytest.fixture(scope="module")
def bert(folder: Path) -> BertModel:
    model = BertModel(BertConfig(**json.loads((folder / "config.json").read_text())), add_pooling_layer=False)
    model.load_state_dict(dequantize(load_file(folder / "model.safetensors")), strict=False)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def mean(tokens: Tensor, weights: Tensor) -> Tensor:
    return functional.normalize((tokens * weights[..., None]).sum(1) / weights.sum(1, keepdim=True), dim=-1)


@pytest.mark.parametrize("prompts", [["a red apple"], ["a red apple", "", "A  cat, black!"], ["x" * 18]])
def test_short_prompts_are_read_by_bert_alone(
    text: TextEncoder, bert: BertModel, tokenizer: Tokenizer, prompts: list[str]
) -> None:
    tokenizer.enable_padding(length=MAX_TOKENS)
    encodings = tokenizer.encode_batch(prompts)
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    with torch.no_grad():
        tokens = bert(torch.tensor([encoding.ids for encoding in encodings]), attention_mask=mask).last_hidden_state
    states = text.encode(prompts)
    assert torch.equal(states.tokens, tokens)
    assert torch.equal(states.mask, mask.bool())
    assert torch.equal(states.pooled, mean(tokens, mask.float()))


def test_a_weight_of_one_changes_nothing(text: TextEncoder) -> None:
    plain, weighted = text.encode(["a red cat"]), text.encode(["a (red:1) ([cat])"])
    assert torch.equal(plain.tokens, weighted.tokens)
    assert torch.equal(plain.pooled, weighted.pooled)


def test_weights_move_tokens_and_their_share_of_the_whole(text: TextEncoder) -> None:
    plain, empty = text.encode(["a red cat"]), text.encode([""])
    weighted = text.encode(["a (red:1.5) [cat]"])
    factors = torch.tensor([1, 1, *[1.5] * 3, *[1 / 1.1] * 3, *[1] * (MAX_TOKENS - 8)])[None]
    expected = empty.tokens + factors[..., None] * (plain.tokens - empty.tokens)
    assert torch.allclose(weighted.tokens, expected, atol=1e-6)
    assert torch.allclose(weighted.pooled, mean(expected, factors * plain.mask), atol=1e-6)


def test_long_prompts_are_read_in_windows(text: TextEncoder) -> None:
    first, second = f"{'x' * 15},", "a cat"
    both, alone = text.encode([f"{first} {second}"]), text.encode([first, second])
    assert torch.allclose(both.tokens, alone.tokens.flatten(0, 1)[None], atol=1e-6)
    assert torch.equal(both.mask, alone.mask.flatten()[None])
    assert torch.allclose(both.pooled, mean(both.tokens, both.mask.float()), atol=1e-6)


def test_a_prompt_means_the_same_beside_a_longer_one(text: TextEncoder) -> None:
    alone, beside = text.encode(["a red cat"]), text.encode(["a red cat", "x" * 40])[:1]
    assert beside.tokens.shape[1] == beside.mask.shape[1] == 3 * MAX_TOKENS
    assert torch.allclose(beside.tokens[:, :MAX_TOKENS], alone.tokens, atol=1e-6)
    assert torch.equal(beside.mask[:, :MAX_TOKENS], alone.mask)
    assert not beside.mask[:, MAX_TOKENS:].any()
    assert torch.allclose(beside.pooled, alone.pooled, atol=1e-6)
