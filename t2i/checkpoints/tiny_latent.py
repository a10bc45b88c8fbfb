"""Checkpoints of the diffusers families with random weights, a few hundred kilobytes each, as diffusers itself builds
and saves them: they draw nothing, but they draw it exactly."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WIDTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
STABLE_DIFFUSION_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def clip_tokenizer(pad_token: str = END) -> CLIPTokenizer:
    """CLIP's, without merges: a token for every character, and 77 of them at most."""
    characters = [chr(code) for code in range(33, 127)]
    words = [*characters, *(character + "</w>" for character in characters), START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token=pad_token)


def clip_text_config(**options: object) -> CLIPTextConfig:
    tokens = 2 * 94 + 2
    return CLIPTextConfig(
        **{
            "vocab_size": tokens,
            "bos_token_id": tokens - 2,
            "eos_token_id": tokens - 1,
            "pad_token_id": 1,
            "hidden_size": WIDTH,
            "projection_dim": WIDTH,
            "intermediate_size": 37,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        }
        | options
    )


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def t5_encoder() -> T5EncoderModel:
    config = T5Config(vocab_size=98, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def autoencoder(latent_channels: int = 4, **options: object) -> AutoencoderKL:
    """Three halvings, as all these families have: 64 px pictures have 8 px latents."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=latent_channels,
        sample_size=64,
        **options,
    ).eval()


def unet(**options: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "cross_attention_dim": WIDTH,
            "attention_head_dim": 2,
        }
        | options
    ).eval()


def stable_diffusion(prediction_type: str = "epsilon", in_channels: int = 4) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_text_config()).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet(in_channels=in_channels),
        scheduler=EulerDiscreteScheduler(
            **STABLE_DIFFUSION_BETAS, prediction_type=prediction_type, timestep_spacing="leading", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(**scheduler: object) -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    return StableDiffusionXLPipeline(
        vae=autoencoder(force_upcast=True, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(clip_text_config(hidden_act="quick_gelu")).eval(),
        text_encoder_2=CLIPTextModelWithProjection(clip_text_config(hidden_act="gelu")).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        unet=unet(
            cross_attention_dim=2 * WIDTH,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(
            **{**STABLE_DIFFUSION_BETAS, "timestep_spacing": "leading", "steps_offset": 1} | scheduler
        ),
    )


def sd3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            out_channels=16,
            pos_embed_max_size=32,
        ).eval(),
        text_encoder=CLIPTextModelWithProjection(clip_text_config(hidden_act="quick_gelu")).eval(),
        text_encoder_2=CLIPTextModelWithProjection(clip_text_config(hidden_act="gelu")).eval(),
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=98, d_model=2 * WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        ).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        tokenizer_3=t5_tokenizer(),
        vae=autoencoder(
            16, shift_factor=0.0609, scaling_factor=1.5305, use_quant_conv=False, use_post_quant_conv=False
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(*, guidance_embeds: bool = True) -> FluxPipeline:
    torch.manual_seed(0)
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ).eval(),
        text_encoder=CLIPTextModel(clip_text_config()).eval(),
        text_encoder_2=t5_encoder(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        vae=autoencoder(
            16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        )
        if guidance_embeds
        else FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


def save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
