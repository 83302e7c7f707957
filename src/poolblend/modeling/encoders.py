"""Read encoders from a folder that passed `trust.inspect`; of an encoder-decoder, its encoder."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedModel,
)
from transformers.utils import is_flash_attn_2_available

from poolblend.errors import UserError
from poolblend.modeling.options import Dtype

# The flags of transformers' classes that say which attention they can compute.
SUPPORTED = {
    "sdpa": ("_supports_sdpa",),
    "flash_attention_2": ("_supports_flash_attn", "_supports_flash_attn_2"),
}
FLASH_SINCE = (8, 0)  # compute capability; a T4 has 7.5
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# The name of the word embeddings that an encoder and its decoder share.
SHARED = "shared"


def read_config(folder: Path, remote_code: bool) -> Any:
    """The configuration; ValueError for sizes below 1, which transformers accepts."""
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=remote_code
    )
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"):
        # Every encoder has the first three; some have no attention heads.
        size = getattr(config, name, 1) if name == "num_attention_heads" else getattr(config, name)
        if type(size) is not int or size < 1:
            raise ValueError(f"its {name} is {size!r}, expected a number of 1 or more")
    # BigBird's sparse attention depends on the batch's length, and the first short one switches it
    # to full attention permanently: results would depend on earlier batches.
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"
    # A decoder would cache every layer's keys and values for a next token that is never needed;
    # ModernBERT of transformers 5.0 would be compiled again for every length of a batch.
    for name in ("use_cache", "reference_compile"):
        if hasattr(config, name):
            setattr(config, name, False)
    return config


def read_encoder(
    folder: Path,
    remote_code: bool,
    *,
    attention: str = "auto",
    dtype: Dtype = "fp32",
    **options: Any,
) -> Any:
    """The encoder with its weights; `options` are those of `from_pretrained`."""
    config, reader = read_config(folder, remote_code), AutoModel
    part = _encoder_part(config, remote_code) if has_decoder(config) else None
    if part is not None:
        config, reader = part.encoder.config, type(part.encoder)
        options["key_mapping"] = part.key_mapping
    loaded = reader.from_pretrained(
        folder,
        config=config,
        dtype=HALF.get(dtype, torch.float32),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=remote_code,
        **_attention_options(config, attention),
        **options,
    )
    if part is not None:
        encoder = loaded[0] if options.get("output_loading_info") else loaded
        for name, parameter in part.encoder.named_parameters():
            # Computed positions (Marian's) do not learn, which transformers does not restore.
            encoder.get_parameter(name).requires_grad_(parameter.requires_grad)
    return loaded


def make_encoder(
    folder: Path,
    remote_code: bool,
    *,
    attention: str = "auto",
    dtype: Dtype = "fp32",
    empty: bool = False,
) -> Any:
    """The encoder that the configuration describes, with random weights.

    With `empty` it has none, which takes no memory: they are to be assigned.
    """
    config = read_config(folder, remote_code)
    if attention != "auto":
        with torch.device("meta"):
            outline = _from_config(config, remote_code)
        check_attention(outline, attention)
    options = _attention_options(config, attention)
    options |= {"dtype": HALF.get(dtype, torch.float32)}
    with init_empty_weights(include_buffers=False) if empty else nullcontext():
        return _from_config(config, remote_code, **options)


def _from_config(config: Any, remote_code: bool, **options: Any) -> Any:
    model = AutoModel.from_config(config, trust_remote_code=remote_code, **options)
    return _take_encoder(model) if has_decoder(config) else model


# --- attention --------------------------------------------------------------------------------


def check_attention(encoder: Any, attention: str) -> None:
    """UserError where the encoder cannot compute its attention that way, or not on this machine."""
    # Otherwise transformers would download a kernel from a hub and run it.
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise UserError(
            "train.attention is flash_attention_2, which needs an NVIDIA GPU and the package "
            "flash-attn; install it, or set train.attention to auto"
        )
    if attention == "flash_attention_2" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability("cuda")
        if (major, minor) < FLASH_SINCE:
            raise UserError(
                "train.attention is flash_attention_2, which needs a GPU of compute capability 8.0 "
                f"(Ampere) or more, and {torch.cuda.get_device_name('cuda')} has {major}.{minor}; "
                "set it to auto"
            )
    flags, own = SUPPORTED.get(attention), getattr(encoder, "_compatible_flash_implementations", ())
    lacking = flags and not any(getattr(encoder, flag, False) for flag in flags)
    if lacking or (attention == "flash_attention_2" and own and attention not in own):
        raise UserError(
            f"train.attention is {attention}, which {type(encoder).__name__} does not have; set it "
            "to auto or eager"
        )


def _attention_options(config: Any, attention: str) -> dict[str, Any]:
    # ModernBERT of transformers 5.0 uses flash attention wherever it is installed, even on a CPU.
    if attention == "auto" and config.model_type == "modernbert":
        attention = "sdpa"
    return {} if attention == "auto" else {"attn_implementation": attention}


# --- encoder-decoders (T5, BART, Marian) ------------------------------------------------------


def has_decoder(config: Any) -> bool:
    """Whether the configuration describes an encoder-decoder.

    T5's own encoder class writes `is_encoder_decoder: false`, so the type decides first.
    """
    return type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING or getattr(
        config, "is_encoder_decoder", False
    )


class EncoderPart(NamedTuple):
    """How to read the encoder of an encoder-decoder from a checkpoint."""

    encoder: Any  # on the meta device
    key_mapping: dict[str, str]  # from names in a checkpoint of both parts to the encoder's own


def _encoder_part(config: Any, remote_code: bool) -> EncoderPart:
    with torch.device("meta"):
        whole = AutoModel.from_config(config, trust_remote_code=remote_code)
        encoder = _take_encoder(whole)
    names = {id(module): name for name, module in whole.named_modules()}
    prefix = rf"^(?:{re.escape(whole.base_model_prefix)}\.)?"
    words = next(n for n, m in encoder.named_modules() if m is encoder.get_input_embeddings())
    shared = {SHARED, names.get(id(whole.get_input_embeddings()), SHARED)}
    mapping = {rf"{prefix}{re.escape(names[id(encoder)])}\.": ""}
    mapping |= {rf"{prefix}{re.escape(name)}\.": f"{words}." for name in sorted(shared)}
    return EncoderPart(encoder, mapping)


def _take_encoder(whole: Any) -> Any:
    """The encoder within `whole`; UserError where transformers cannot separate it."""
    encoder = whole.get_encoder()
    if encoder is whole or not isinstance(encoder, PreTrainedModel):
        raise UserError(
            f"{type(whole).__name__} has an encoder and a decoder, and transformers does not give "
            "its encoder alone; choose another backbone"
        )
    return encoder
