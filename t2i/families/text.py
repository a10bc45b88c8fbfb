"""The cascade's text encoder: MiniLM token states and a pooled sentence vector, from weights kept as int8."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from t2i.families.model import TextStates
from t2i.families.windows import Splitter, Windows

MAX_TOKENS = 20
"""Tokens per window, [CLS] and [SEP] included; longer prompts are read in several."""

_SCALE = ".scale"


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
        self.model = model.eval().requires_grad_(False).to(device)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        start, end = tokenizer.encode("").ids
        self._split = Splitter(
            lambda text: tokenizer.encode(text, add_special_tokens=False),
            length=MAX_TOKENS,
            start=(start,),
            end=end,
            pad=config.pad_token_id,
        )
        self.dim: int = config.hidden_size
        self.parameters = sum(weight.numel() for weight in weights.values())

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextStates:
        """Token states by masked self-attention, [n, MAX_TOKENS k, dim], k being the windows that the longest prompt
        needs; `mask` is False for padding. `pooled` is their mean, normalised (Reimers 2019, §3), in which tokens count
        by their weights too."""
        windows = self._split(prompts)
        states = self._read(windows)
        if windows.weighted:
            states = windows.weigh(states, self._read(self._split([""])))
        tokens = windows.join(states)
        mask = (~windows.padding & ~windows.spare[..., None]).flatten(1).to(tokens.device)
        weight = (mask * windows.weights.flatten(1).to(tokens.device))[..., None]
        pooled = torch.nn.functional.normalize((tokens * weight).sum(1) / weight.sum(1), dim=-1)
        return TextStates(tokens, mask, pooled)

    def sentences(self, texts: list[str]) -> Tensor:
        """Only the normalised vectors of whole texts, [n, dim]."""
        pooled = self.encode(texts).pooled
        assert pooled is not None
        return pooled

    def _read(self, windows: Windows) -> Tensor:
        ids = windows.ids.flatten(0, 1).to(self.model.device)
        seen = (~windows.padding).flatten(0, 1).long().to(self.model.device)
        states: Tensor = self.model(input_ids=ids, attention_mask=seen).last_hidden_state
        return states


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
