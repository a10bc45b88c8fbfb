"""The cascade's text encoder: MiniLM token states and a pooled sentence vector, from weights kept as int8."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

MAX_TOKENS = 20
"""Tokens per prompt, [CLS] and [SEP] included; longer prompts are cut."""

_SCALE = ".scale"


@dataclass(frozen=True, slots=True)
class TextStates:
    """Encoded prompts: `tokens` [n, MAX_TOKENS, dim], `mask` [n, MAX_TOKENS] bool, `pooled` [n, dim] of unit length."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def __getitem__(self, rows: slice | Tensor) -> TextStates:
        return TextStates(self.tokens[rows], self.mask[rows], self.pooled[rows])

    def to(self, device: torch.device) -> TextStates:
        return TextStates(self.tokens.to(device), self.mask.to(device), self.pooled.to(device))

    @staticmethod
    def concatenate(parts: list[TextStates]) -> TextStates:
        return TextStates(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.mask for part in parts]),
            torch.cat([part.pooled for part in parts]),
        )


class TextEncoder:
    """A frozen sentence-transformers BERT with its tokenizer, read from `folder`.

    The folder holds config.json, tokenizer.json and model.safetensors; matrices in the latter are int8 with one scale a
    row (`quantize`), everything else is half precision. The network itself runs in float32.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import BertConfig, BertModel

        config = BertConfig(**json.loads((folder / "config.json").read_text()))
        with torch.device("meta"):
            model = BertModel(config, add_pooling_layer=False)
        weights = dequantize(load_file(folder / "model.safetensors"))
        model.load_state_dict(weights, assign=True, strict=False)
        model.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
        model.embeddings.token_type_ids = torch.zeros(1, config.max_position_embeddings, dtype=torch.long)
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(length=MAX_TOKENS)
        self.dim: int = config.hidden_size
        self.parameters = sum(weight.numel() for weight in weights.values())

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextStates:
        """Token states by masked self-attention; `pooled` is their masked mean, normalised (Reimers 2019, §3)."""
        encodings = self._tokenizer.encode_batch(prompts)
        device = self._model.device
        ids = torch.tensor([encoding.ids for encoding in encodings], device=device)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], device=device)
        tokens = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(tokens.dtype)
        pooled = torch.nn.functional.normalize((tokens * weight).sum(1) / weight.sum(1), dim=-1)
        return TextStates(tokens, mask.bool(), pooled)


def quantize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices [out, in] become int8 with a float32 scale for each row; other tensors become float16."""
    result: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim != 2:
            result[name] = weight.to(torch.float16)
            continue
        scale = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        result[name] = (weight / scale[:, None]).round().to(torch.int8)
        result[name + _SCALE] = scale.to(torch.float32)
    return result


def dequantize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `quantize`, everything float32."""
    return {
        name: weight.float() * weights[name + _SCALE][:, None] if weight.dtype == torch.int8 else weight.float()
        for name, weight in weights.items()
        if not name.endswith(_SCALE)
    }


def save_quantized(source: Path, folder: Path) -> None:
    """Write a text encoder folder from a sentence-transformers one (config.json, tokenizer.json, model.safetensors)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(source / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if weight.is_floating_point() and "pooler" not in name}
    save_file(quantize(kept), folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())
