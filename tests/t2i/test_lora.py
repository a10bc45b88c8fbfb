"""LoRAs: what they add is what diffusers adds, and without them a network is bit for bit what it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t2i.api import CheckpointError, InvalidRequest, Lora
from t2i.checkpoints.lora import MAX_LOADED, Loras
from tests.t2i import tiny

FAMILIES: dict[str, tuple[Callable[[], DiffusionPipeline], tuple[str, ...]]] = {
    "stable_diffusion": (tiny.stable_diffusion, ("unet", "text_encoder")),
    "sdxl": (tiny.sdxl, ("unet", "text_encoder", "text_encoder_2")),
    "sd3": (tiny.sd3, ("transformer", "text_encoder", "text_encoder_2")),
    "flux": (tiny.flux, ("transformer", "text_encoder")),
}
TARGETS = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "time_emb_proj"],
    "transformer": ["to_q", "to_k", "to_v", "to_out.0", "proj_out"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"],
    "text_encoder_2": ["q_proj", "k_proj", "v_proj", "out_proj", "fc2"],
}
QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def parts_of(family: str) -> dict[str, nn.Module]:
    build, names = FAMILIES[family]
    pipeline = build()
    return {name: getattr(pipeline, name) for name in names}


def write(
    folder: Path, family: str, name: str, *, parts: tuple[str, ...] | None = None, alpha: int | None = None
) -> Path:
    """A LoRA with random weights of rank 3, as diffusers saves one; `alpha` goes into the file's metadata."""
    build, names = FAMILIES[family]
    pipeline = build()
    torch.manual_seed(sum(name.encode()))
    options = {}
    for part in parts or names:
        config = LoraConfig(r=3, lora_alpha=alpha or 3, target_modules=TARGETS[part], init_lora_weights=False)
        network = getattr(pipeline, part)
        network.add_adapter(config)
        options[f"{part}_lora_layers"] = get_peft_model_state_dict(network, adapter_name="default")
        if alpha:
            options[f"{part}_lora_adapter_metadata"] = network.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, weight_name=f"{name}.safetensors", **options)
    return folder / f"{name}.safetensors"


@torch.inference_mode()
def outputs(parts: dict[str, nn.Module]) -> list[Tensor]:
    """What every part says to the same inputs."""
    noise = torch.Generator().manual_seed(7)
    found = []
    for name, part in parts.items():
        dtype = next(part.parameters()).dtype

        def random(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.randn(shape, generator=noise).to(dtype)

        if name.startswith("text_encoder"):
            found.append(part(torch.arange(77)[None], output_hidden_states=True).hidden_states[-1])
        elif name in ("unet", "base"):
            extra = {}
            if part.config.addition_embed_type:
                extra = {"added_cond_kwargs": {"text_embeds": random(2, tiny.WIDTH), "time_ids": random(2, 6)}}
            text = random(2, 5, part.config.cross_attention_dim)
            found.append(part(random(2, 4, 8, 8), torch.tensor([1, 700]), text, **extra).sample)
        elif part.config.in_channels == 64:
            found.append(
                part(
                    hidden_states=random(2, 16, 64),
                    timestep=torch.tensor([0.1, 0.7]),
                    guidance=torch.tensor([1.0, 3.5]),
                    pooled_projections=random(2, tiny.WIDTH),
                    encoder_hidden_states=random(2, 5, tiny.WIDTH),
                    txt_ids=torch.zeros(5, 3),
                    img_ids=torch.zeros(16, 3),
                ).sample
            )
        else:
            found.append(
                part(
                    hidden_states=random(2, 16, 8, 8),
                    timestep=torch.tensor([100.0, 700.0]),
                    encoder_hidden_states=random(2, 5, 2 * tiny.WIDTH),
                    pooled_projections=random(2, 2 * tiny.WIDTH),
                ).sample
            )
    return found


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative difference of any part."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture(autouse=True)
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle puts LoRAs into text encoders through transformers, which asks for a newer peft than there is."""
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "0.18.0")


@pytest.mark.parametrize("family", FAMILIES)
def test_two_loras_add_up_as_they_do_in_diffusers(family: str, tmp_path: Path) -> None:
    build, names = FAMILIES[family]
    whole = write(tmp_path, family, "whole", alpha=6)
    denoiser = write(tmp_path, family, "denoiser", parts=names[:1])
    oracle = build()
    oracle.load_lora_weights(whole, adapter_name="whole")
    oracle.load_lora_weights(denoiser, adapter_name="denoiser")
    oracle.set_adapters(["whole", "denoiser"], [0.7, -0.4])
    expected = outputs({name: getattr(oracle, name) for name in names})
    parts = parts_of(family)
    untouched = outputs(parts)
    loras = Loras(family, parts, tmp_path)

    loras.use((Lora("whole", 0.7), Lora("denoiser", -0.4)))

    assert error(outputs(parts), expected) < 1e-6
    assert all(error([after], [before]) > 1e-3 for after, before in zip(expected, untouched, strict=True))
    loras.use(())
    assert same(outputs(parts), untouched)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unloaded_lora_leaves_every_layer_as_it_was(family: str, tmp_path: Path) -> None:
    write(tmp_path, family, "one")
    parts = parts_of(family)
    layers = {name: dict(part.named_modules()) for name, part in parts.items()}
    loras = Loras(family, parts, tmp_path)

    loras.use((Lora("one"),))
    loras.unload("one")

    assert {name: dict(part.named_modules()) for name, part in parts.items()} == layers
    assert loras.loaded == []
