"""A checkpoint of the cascade family with random weights: it draws nothing, in a few milliseconds a step, for tests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from t2i.families import cascade, references
from t2i.families.networks import CHANNELS, NetworkShape, build_network
from t2i.families.references import Entry
from t2i.families.text import TextEncoder, quantize

_TEXT_DIM = 32
_UNKNOWN = "[UNK]"
_SPECIAL = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]")


def build(folder: Path, seed: int = 0, *, steps: int = 8, collages: bool = False) -> Path:
    """Write the checkpoint into `folder`, named after it, and return the folder. 16 px pictures, upsampled to 64 px;
    with `collages` they are drawn after squares that are called red and blue."""
    torch.manual_seed(seed)
    shape = NetworkShape(block_out_channels=[32, 32], attention=[False, True], patch=4)
    seen = CHANNELS * shape.patch**2 if collages else 0
    base = build_network(shape, resolution=16, text_dim=_TEXT_DIM, condition_channels=seen)
    upsampler = build_network(shape, resolution=64, text_dim=_TEXT_DIM, condition_channels=CHANNELS)
    folder.mkdir(parents=True, exist_ok=True)
    index = {
        "name": folder.name,
        "description": "Untrained weights for tests.",
        "licence": "MIT",
        "num_timesteps": 1000,
        "upsampler_steps": 2,
        "redraw": 0.5,
        "defaults": {"steps": steps, "sampler": "flow_euler", "guidance_scale": 3.0, "size": 64},
    }
    with tempfile.TemporaryDirectory() as scratch:
        text_encoder = Path(scratch)
        _write_text_encoder(text_encoder)
        if collages:
            _write_references(folder / cascade.REFERENCES, TextEncoder(text_encoder, torch.device("cpu")))
        cascade.save(folder, index, base, upsampler, text_encoder)
    return folder


def _write_references(folder: Path, encoder: TextEncoder) -> None:
    pictures = []
    for colour in ((220, 30, 30, 255), (30, 30, 220, 255)):
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[2:-2, 2:-2] = colour
        pictures.append(pixels)
    entries = [Entry("red square", ()), Entry("blue square", ())]
    references.save(folder, pictures, entries, encoder.sentences, quality=90)


def _write_text_encoder(folder: Path) -> None:
    """A one-layer BERT that reads single characters."""
    from transformers import BertConfig, BertModel

    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *map(chr, range(33, 127))))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=_UNKNOWN, continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=_TEXT_DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict()))
    weights = BertModel(config, add_pooling_layer=False).state_dict()
    kept = {name: weight for name, weight in weights.items() if weight.is_floating_point()}
    save_file(quantize(kept), folder / "model.safetensors")
