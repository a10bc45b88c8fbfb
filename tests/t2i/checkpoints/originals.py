"""Single files as their authors published them: diffusers' weights under the names of the original code bases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def stable_diffusion_1(parts: Mapping[str, Any]) -> Weights:
    return _unet_and_vae(parts) | openai_clip(parts["text_encoder"], "cond_stage_model.transformer.")


def stable_diffusion_2(parts: Mapping[str, Any]) -> Weights:
    return _unet_and_vae(parts) | open_clip(parts["text_encoder"], "cond_stage_model.model.")


def sdxl(parts: Mapping[str, Any]) -> Weights:
    first = openai_clip(parts["text_encoder"], "conditioner.embedders.0.transformer.")
    return _unet_and_vae(parts) | first | open_clip(parts["text_encoder_2"], "conditioner.embedders.1.model.")


def _unet_and_vae(parts: Mapping[str, Any]) -> Weights:
    return unet(parts["unet"]) | vae(parts["vae"]) | {"model_ema.decay": torch.zeros(())}


def unet(module: Any) -> Weights:
    layers = module.config.layers_per_block + 1
    count = len(module.config.block_out_channels)
    named = {_unet_name(name, layers, count): weight for name, weight in module.state_dict().items()}
    # An upsampler comes last in its block: after the attention where there is one.
    attentive = {name.partition(".1.")[0] for name in named if ".1." in name}
    for name in [name for name in named if ".up.conv." in name]:
        place = 2 if name.partition(".up.")[0] in attentive else 1
        named[name.replace(".up.", f".{place}.")] = named.pop(name)
    return {f"model.diffusion_model.{name}": weight for name, weight in named.items()}


def _unet_name(name: str, layers: int, count: int) -> str:
    for theirs, original in _UNET_ENDS.items():
        if name.startswith(f"{theirs}."):
            return name.replace(theirs, original, 1)
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_resnet(found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    assert found, name
    way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * layers}.0.{rest.replace('conv.', 'op.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * layers + layers - 1}.up.{rest}"
    index = block * layers + layer + (1 if way == "down" else 0)
    blocks = "input_blocks" if way == "down" else "output_blocks"
    return f"{blocks}.{index}.{1 if kind == 'attentions' else 0}.{_resnet(rest)}"


def _resnet(rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{_RESNET[head]}.{tail}" if head in _RESNET else rest


def vae(module: Any) -> Weights:
    count = len(module.config.block_out_channels)
    weights = {}
    for name, weight in module.state_dict().items():
        original = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        original = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", original)
        original = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{count - 1 - int(found[1])}", original)
        original = original.replace(".resnets.", ".block.").replace("upsamplers.0", "upsample")
        original = re.sub(r"mid_block\.block\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", original)
        if "attentions" in original:
            original = original.replace("mid_block.attentions.0", "mid.attn_1")
            for theirs, theirs_before in _VAE_ATTENTION.items():
                original = original.replace(f".{theirs}.", f".{theirs_before}.")
            if weight.ndim == 2:
                weight = weight[:, :, None, None]  # noqa: PLW2901
        original = original.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        weights[f"first_stage_model.{original}"] = weight
    return weights


def openai_clip(module: Any, prefix: str) -> Weights:
    weights = {f"{prefix}text_model.{_bare(name)}": weight for name, weight in module.state_dict().items()}
    positions = torch.arange(module.config.max_position_embeddings)[None]
    return weights | {f"{prefix}text_model.embeddings.position_ids": positions}


def open_clip(module: Any, prefix: str) -> Weights:
    weights: Weights = {}
    states = {_bare(name): weight for name, weight in module.state_dict().items()}
    for name, weight in states.items():
        if name == "text_projection.weight":
            weights["text_projection"] = weight.T.contiguous()
        elif name in _OPEN_CLIP:
            weights[_OPEN_CLIP[name]] = weight
        elif found := re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
            block, layer, kind = f"transformer.resblocks.{found[1]}", found[2], found[3]
            if layer in _OPEN_CLIP_LAYER:
                weights[f"{block}.{_OPEN_CLIP_LAYER[layer]}.{kind}"] = weight
            elif layer == "self_attn.q_proj":
                three = [states[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                weights[f"{block}.attn.in_proj_{kind}"] = torch.cat(three)
    weights.setdefault("text_projection", torch.zeros(module.config.hidden_size, module.config.hidden_size))
    weights["logit_scale"] = torch.ones(())
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")
