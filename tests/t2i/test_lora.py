"""LoRAs: what they add is what diffusers adds, and without them a network is bit for bit what it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t2i.api import CheckpointError, InvalidRequest, Lora
from t2i.checkpoints import tiny_latent as tiny
from t2i.checkpoints.lora import MAX_LOADED, Loras

FAMILIES: dict[str, tuple[Callable[[], DiffusionPipeline], tuple[str, ...]]] = {
    "sd": (tiny.stable_diffusion, ("unet", "text_encoder")),
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
KOHYA_QUERY = f"lora_unet_{QUERY.replace('.', '_')}"


@cache
def built(family: str) -> DiffusionPipeline:
    return FAMILIES[family][0]()


def parts_of(family: str) -> dict[str, nn.Module]:
    return {name: copy.deepcopy(getattr(built(family), name)) for name in FAMILIES[family][1]}


def write(folder: Path, family: str, name: str, parts: tuple[str, ...] = (), alpha: int | None = None) -> Path:
    """A LoRA with random weights of rank 3, as diffusers saves one; `alpha` goes into the file's metadata."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.safetensors"
    file.write_bytes(saved(family, sum(name.encode()), parts or FAMILIES[family][1], alpha))
    return file


@cache
def saved(family: str, seed: int, parts: tuple[str, ...], alpha: int | None) -> bytes:
    networks = parts_of(family)
    torch.manual_seed(seed)
    options = {}
    for part in parts:
        network = networks[part]
        network.add_adapter(
            LoraConfig(r=3, lora_alpha=alpha or 3, target_modules=TARGETS[part], init_lora_weights=False)
        )
        options[f"{part}_lora_layers"] = get_peft_model_state_dict(network, adapter_name="default")
        if alpha:
            options[f"{part}_lora_adapter_metadata"] = network.peft_config["default"].to_dict()
    with TemporaryDirectory() as folder:
        built(family).save_lora_weights(folder, weight_name="lora.safetensors", **options)
        return (Path(folder) / "lora.safetensors").read_bytes()


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


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
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


def write_kohya(path: Path, layers: dict[str, tuple[nn.Module, int, float]]) -> Path:
    """A LoRA as kohya names it: {name: (the layer it is for, rank, alpha)}."""
    random = torch.Generator().manual_seed(3)
    tensors = {}
    for name, (layer, rank, alpha) in layers.items():
        kernel, one = (layer.kernel_size, (1, 1)) if isinstance(layer, nn.Conv2d) else ((), ())
        outputs, inputs = layer.weight.shape[:2]
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inputs, *kernel, generator=random)
        tensors[f"{name}.lora_up.weight"] = torch.randn(outputs, rank, *one, generator=random)
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


@torch.no_grad()
def merge(file: Path, name: str, layer: nn.Module, weight: float) -> None:
    """W + weight * alpha / rank * B A, by hand."""
    tensors = load_file(file)
    down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
    product = (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
    layer.weight += weight * tensors[f"{name}.alpha"] / len(down) * product


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (
            "sd",
            {
                KOHYA_QUERY: f"unet.{QUERY}",
                "lora_unet_down_blocks_1_attentions_0_proj_in": "unet.down_blocks.1.attentions.0.proj_in",
                "lora_unet_mid_block_resnets_0_conv1": "unet.mid_block.resnets.0.conv1",
                "lora_te_text_model_encoder_layers_0_mlp_fc1": "text_encoder.encoder.layers.0.mlp.fc1",
            },
        ),
        (
            "sdxl",
            {
                "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q": f"unet.{QUERY}",
                "lora_unet_middle_block_0_in_layers_2": "unet.mid_block.resnets.0.conv1",
                "lora_te1_text_model_encoder_layers_0_mlp_fc1": "text_encoder.encoder.layers.0.mlp.fc1",
                "lora_te2_text_model_encoder_layers_1_mlp_fc2": "text_encoder_2.text_model.encoder.layers.1.mlp.fc2",
            },
        ),
        (
            "sd3",
            {
                "lora_transformer_transformer_blocks_0_attn_to_k": "transformer.transformer_blocks.0.attn.to_k",
                "lora_te2_text_model_encoder_layers_1_mlp_fc2": "text_encoder_2.text_model.encoder.layers.1.mlp.fc2",
            },
        ),
        (
            "flux",
            {
                "lora_unet_double_blocks_0_img_attn_proj": "transformer.transformer_blocks.0.attn.to_out.0",
                "lora_unet_single_blocks_0_linear2": "transformer.single_transformer_blocks.0.proj_out",
                "lora_te1_text_model_encoder_layers_0_mlp_fc1": "text_encoder.encoder.layers.0.mlp.fc1",
            },
        ),
    ],
    ids=FAMILIES,
)
def test_a_kohya_file_adds_what_its_alphas_and_ranks_say(family: str, names: dict[str, str], tmp_path: Path) -> None:
    parts, merged = parts_of(family), nn.ModuleDict(parts_of(family))
    layers = {
        name: (merged.get_submodule(path), 2 + number % 2, 0.1 + number)
        for number, (name, path) in enumerate(names.items())
    }
    file = write_kohya(tmp_path / "hand.v1.safetensors", layers)
    for name, (layer, _, _) in layers.items():
        merge(file, name, layer, 0.3)
    untouched = outputs(parts)

    Loras(family, parts, tmp_path).use((Lora("hand.v1", 0.3),))

    expected = outputs({name: merged[name] for name in parts})
    assert error(outputs(parts), expected) < 1e-6
    assert all(not torch.equal(*pair) for pair in zip(expected[:1], untouched[:1], strict=True))


@pytest.mark.parametrize("prefix", ["unet", "base"])
def test_the_base_network_of_a_cascade_takes_loras_by_either_name(prefix: str, tmp_path: Path) -> None:
    file = write(tmp_path, "sd", "drawn", parts=("unet",))
    renamed = {key.replace("unet.", f"{prefix}.", 1): tensor for key, tensor in load_file(file).items()}
    save_file(renamed, tmp_path / "renamed.safetensors")
    expected = parts_of("sd")
    Loras("sd", expected, tmp_path).use((Lora("drawn"),))
    parts = {"base": parts_of("sd")["unet"]}

    Loras("cascade", parts, tmp_path).use((Lora("renamed"),))

    assert same(outputs(parts), outputs({"unet": expected["unet"]}))


@pytest.mark.filterwarnings("error")
def test_neither_the_order_of_loras_nor_what_was_used_before_changes_a_bit(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write(tmp_path, "sd", name)
    found = []
    for order in (("one", "two"), ("two", "one")):
        parts = parts_of("sd")
        loras = Loras("sd", parts, tmp_path)
        loras.use((Lora(order[0]), Lora("three", -2.0)))
        loras.use((Lora(order[1], 3.0),))
        loras.use(())
        loras.use(tuple(Lora(name, 0.5) for name in order))
        found.append(outputs(parts))
    assert same(*found)


def test_a_lora_of_no_weight_adds_nothing(tmp_path: Path) -> None:
    write(tmp_path, "sd", "one")
    parts = parts_of("sd")
    untouched = outputs(parts)

    Loras("sd", parts, tmp_path).use((Lora("one", 0.0),))

    assert same(outputs(parts), untouched)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loras_load_inside_inference_mode_and_act_outside_it_and_the_other_way_round(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    write(tmp_path, "sd", "one")
    write(tmp_path, "sd", "two")
    parts = {name: part.to(dtype) for name, part in parts_of("sd").items()}
    loras = Loras("sd", parts, tmp_path)
    with torch.inference_mode():
        loras.use((Lora("one"),))
    tokens = torch.arange(77)[None]
    outside = parts["text_encoder"](tokens).last_hidden_state
    loras.load("two")
    with torch.inference_mode():
        loras.use((Lora("one"), Lora("two")))
        loras.unload("two")
        inside = parts["text_encoder"](tokens).last_hidden_state
    assert torch.equal(inside, outside)
    assert not outside.requires_grad
    assert not any(parameter.is_inference() for part in parts.values() for parameter in part.parameters())
    assert not any(module.training for part in parts.values() for module in part.modules())


def test_weights_follow_the_precision_of_their_layers(tmp_path: Path) -> None:
    write(tmp_path, "sd", "one")
    exact, parts = parts_of("sd"), parts_of("sd")
    for part in parts.values():
        part.to(torch.bfloat16)
    for each in (exact, parts):
        Loras("sd", each, tmp_path).use((Lora("one"),))

    assert {parameter.dtype for part in parts.values() for parameter in part.parameters()} == {torch.bfloat16}
    assert error([found.float() for found in outputs(parts)], outputs(exact)) < 0.05


def test_the_least_recently_used_loras_make_room(tmp_path: Path) -> None:
    write(tmp_path, "sd", "0", parts=("text_encoder",))
    names = [str(number) for number in range(MAX_LOADED + 2)]
    for name in names[1:]:
        (tmp_path / f"{name}.safetensors").symlink_to(tmp_path / "0.safetensors")
    loras = Loras("sd", parts_of("sd"), tmp_path)

    loras.use((Lora("0"),))
    for name in names[1:]:
        loras.load(name)

    assert set(loras.loaded) == set(names) - {"1", "2"}
    loras.use((Lora("1"),))
    assert set(loras.loaded) == set(names) - {"2", "3"}
    with pytest.raises(InvalidRequest):
        loras.use((Lora("2"), Lora("x")))
    assert set(loras.loaded) == set(names) - {"3", "4"}


def test_a_lora_in_use_is_not_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, "sd", "one")
    loras = Loras("sd", parts_of("sd"), tmp_path)
    loras.use((Lora("one"),))
    file.unlink()

    loras.use((Lora("one", 0.5),))
    loras.use(())

    assert loras.loaded == ["one"]


def test_a_file_from_anywhere_can_be_added_and_replaced(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, "sd", name) for name in ("one", "two"))
    parts, expected = parts_of("sd"), parts_of("sd")
    loras = Loras("sd", parts, None)
    loras.add("mine", first)
    loras.use((Lora("mine"),))

    loras.add("mine", second)
    loras.use((Lora("mine"),))

    Loras("sd", expected, tmp_path / "two").use((Lora("two"),))
    assert loras.available() == {"mine": second}
    assert same(outputs(parts), outputs(expected))


# --- refusals -------------------------------------------------------------------------------------------------------


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file({key: tensor.contiguous() for key, tensor in change(load_file(file)).items()}, file)


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle by another name": (lambda file: torch.save({}, file), "damaged or not a safetensors file"),
    "a truncated file": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "damaged"),
    "an empty file": (lambda file: file.write_bytes(b""), "damaged"),
    "no layers": (lambda file: save_file({}, file), "changes no layer"),
    "SDXL's second text encoder": (
        lambda file: write(file.parent, "sdxl", file.stem),
        "for another family, as it changes a text_encoder_2",
    ),
    "SDXL's other widths": (
        lambda file: write(file.parent, "sdxl", file.stem, parts=("unet",)),
        "it is for another (family|checkpoint)",
    ),
    "FLUX": (lambda file: write(file.parent, "flux", file.stem), "for another family, as it changes a transformer"),
    "a layer that is not there": (
        lambda file: rewrite(file, lambda tensors: {k.replace("to_q", "to_z"): t for k, t in tensors.items()}),
        "no layer",
    ),
    "keys of no LoRA": (lambda file: save_file({"unet.conv_in.weight": torch.zeros(1)}, file), "conv_in.weight"),
    "keys of nothing": (lambda file: save_file({"x": torch.zeros(1)}, file), "its key x"),
    "kohya's keys of nothing": (
        lambda file: save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, file),
        "keys are not those of a LoRA for sd",
    ),
    "halves of different rank": (
        lambda file: rewrite(file, lambda tensors: {k: t[:2] if "lora_A" in k else t for k, t in tensors.items()}),
        "shape",
    ),
    "a half alone": (
        lambda file: rewrite(file, lambda tensors: {k: t for k, t in tensors.items() if "lora_A" not in k}),
        "half of its weights",
    ),
    "a DoRA": (
        lambda file: rewrite(file, lambda tensors: tensors | {"lora_unet_x.dora_scale": torch.zeros(1)}),
        "it is a DoRA",
    ),
    "an alpha that is a vector": (
        lambda file: save_file({f"{KOHYA_QUERY}.alpha": torch.zeros(2)} | load_file(file), file),
        "not a number",
    ),
    "damaged metadata": (
        lambda file: save_file(load_file(file), file, {"lora_adapter_metadata": '{"unet.lora_alpha": "many"}'}),
        "metadata is damaged",
    ),
    "metadata that is no JSON": (
        lambda file: save_file(load_file(file), file, {"lora_adapter_metadata": "{"}),
        "damaged",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loras")


@pytest.fixture(scope="module")
def busy(folder: Path) -> tuple[Loras, dict[str, nn.Module], list[Tensor]]:
    """A model with a LoRA in use, its parts and what they say: every refusal must leave it so."""
    write_kohya(folder / "good.safetensors", {KOHYA_QUERY: (built("sd").unet.get_submodule(QUERY), 2, 1.0)})
    parts = parts_of("sd")
    loras = Loras("sd", parts, folder)
    loras.use((Lora("good"),))
    return loras, parts, outputs(parts)


@pytest.mark.parametrize(("spoil", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_file_that_does_not_fit_is_refused_with_a_sentence_and_changes_nothing(
    spoil: Callable[[Path], object],
    reason: str,
    folder: Path,
    busy: tuple[Loras, dict[str, nn.Module], list[Tensor]],
) -> None:
    loras, parts, before = busy
    spoil(write(folder, "sd", "bad"))

    with pytest.raises(CheckpointError, match=rf"^[^.]*bad\.safetensors.*{reason}.*\.$"):
        loras.use((Lora("bad"), Lora("good", 0.1)))

    assert loras.loaded == ["good"]
    assert same(outputs(parts), before)


def test_other_kinds_of_file_are_not_opened(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "old.ckpt")
    loras = Loras("sd", parts_of("sd"), tmp_path)
    with pytest.raises(CheckpointError, match=r"old\.ckpt is not a \.safetensors file"):
        loras.add("old", tmp_path / "old.ckpt")
    assert loras.available() == {}


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_a_network_that_cannot_take_a_lora_is_left_as_it_was(tmp_path: Path) -> None:
    # peft has no LoRA of this rank for a grouped convolution, and says so when the text encoder already has one.
    encoder = parts_of("sd")["text_encoder"]
    parts = {"unet": nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "text_encoder": encoder}
    layers = {name: dict(part.named_modules()) for name, part in parts.items()}
    write_kohya(
        tmp_path / "one.safetensors",
        {
            "lora_te_encoder_layers_0_mlp_fc1": (encoder.encoder.layers[0].mlp.fc1, 3, 1.0),
            "lora_unet_0": (parts["unet"][0], 3, 1.0),
        },
    )
    loras = Loras("sd", parts, tmp_path)
    with pytest.raises(ValueError, match="groups"):
        loras.use((Lora("one"),))
    assert {name: dict(part.named_modules()) for name, part in parts.items()} == layers
    assert loras.loaded == []


def test_an_unknown_name_is_refused_with_some_that_there_are(tmp_path: Path) -> None:
    parts = parts_of("sd")
    with pytest.raises(InvalidRequest, match="There is no LoRA named 'x'; this checkpoint has none") as refusal:
        Loras("sd", parts, tmp_path).use((Lora("x"),))
    assert refusal.value.field == "loras"
    for number in range(12):
        (tmp_path / f"style{number:02}.safetensors").touch()
    loras = Loras("sd", parts, tmp_path)
    with pytest.raises(InvalidRequest, match=r"there is style00, style01, .*, style07 and 4 more"):
        loras.load("x")
    with pytest.raises(InvalidRequest, match="not loaded"):
        loras.unload("style00")
