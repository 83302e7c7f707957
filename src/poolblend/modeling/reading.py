"""transformers' own reading of a folder, once that folder is known to run no code.

No hub is asked, nothing is said but one line, and configurations are held to sizes that are sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import is_flash_attn_2_available

from poolblend.errors import UserError
from poolblend.modeling.encoders import encoder_part, has_decoder, take_encoder
from poolblend.modeling.tokenizers import FILE, Kept, as_in_files
from poolblend.modeling.trust import inspect

# What a class says of itself, by the attention that it can compute.
SUPPORTED = {
    "sdpa": ("_supports_sdpa",),
    "flash_attention_2": ("_supports_flash_attn", "_supports_flash_attn_2"),
}


@contextmanager
def readable(folder: Path, remote_code: bool) -> Iterator[None]:
    """Let transformers read a folder once it is known to run no code; what it raises, in one line.

    No hub is asked meanwhile: `local_files_only` does not reach every call within transformers. Its
    bars and reports are silenced: they would come once per fold, and for one error fill a screen.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    constants = huggingface_hub.constants
    before = constants.HF_HUB_OFFLINE
    try:
        inspect(folder, remote_code)
        constants.HF_HUB_OFFLINE = True
        yield
    except UserError:
        raise
    except BaseException as error:
        # A damaged file makes many libraries fail in ways of their own, tokenizers' by a panic in
        # Rust, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{folder} cannot be read as a transformers model: {reason}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def read_tokenizer(folder: Path, remote_code: bool) -> Any:
    """The tokenizer in `folder`; UserError where there is none, or none with words."""
    return tokenizer_and_source(folder, remote_code)[0]


def tokenizer_and_source(folder: Path, remote_code: bool) -> tuple[Any, str | None]:
    """The tokenizer, and the file in `folder` that it is read from where transformers would err.

    Raises UserError as `read_tokenizer` does.
    """
    tokenizer, source = as_in_files(build_tokenizer(folder, remote_code), folder)
    # Without its files transformers makes a tokenizer that knows no word, and says nothing.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UserError(f"{folder} holds no tokenizer; save it beside the weights")
    return tokenizer, source


def tokenizer_source(folder: Path, remote_code: bool) -> str | None:
    """The file that the tokenizer in `folder` is read from, where transformers would err.

    Raises UserError where there is no tokenizer that can be read.
    """
    with readable(folder, remote_code):
        return tokenizer_and_source(folder, remote_code)[1]


def keeping(tokenizer: Any, folder: Path, remote_code: bool) -> Kept:
    """The tokenizer that was read from `folder`, as a part of a model's folder."""
    return Kept(tokenizer, folder, partial(_read_again, remote_code=remote_code))


def _read_again(folder: Path, remote_code: bool) -> Any:
    if not remote_code:  # else it would be said of each folder that code is run
        inspect(folder)
    return read_tokenizer(folder, remote_code)


def build_tokenizer(folder: Path, remote_code: bool) -> Any:
    """What transformers makes of the folder's tokenizer, which may differ from the files there.

    Where its class cannot be made of what tokenizer.json holds, that file alone is read.
    """
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=remote_code
        )
    except Exception:  # of many libraries
        if remote_code or not (folder / FILE).is_file():
            raise
        return PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def read_encoder(
    folder: Path, remote_code: bool, *, attention: str = "auto", **options: Any
) -> Any:
    """The encoder with its weights, in fp32; `options` are those of `from_pretrained`."""
    config, reader = read_config(folder, remote_code), AutoModel
    part = encoder_part(config, remote_code)
    if part is not None:
        config, reader = part.encoder.config, type(part.encoder)
        options["key_mapping"] = part.key_mapping
    loaded = reader.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=remote_code,
        **_attending(config, attention),
        **options,
    )
    if part is not None:
        encoder = loaded[0] if options.get("output_loading_info") else loaded
        for name, parameter in part.encoder.named_parameters():
            # Computed positions (Marian's) learn nothing, which transformers forgets.
            encoder.get_parameter(name).requires_grad_(parameter.requires_grad)
    return loaded


def make_encoder(folder: Path, remote_code: bool, *, attention: str = "auto") -> Any:
    """The encoder that the configuration describes, in fp32, with random weights."""
    config = read_config(folder, remote_code)
    if attention != "auto":
        with torch.device("meta"):
            outline = _model_of(config, remote_code)
        check_attention(outline, attention)
    return _model_of(config, remote_code, dtype=torch.float32, **_attending(config, attention))


def _model_of(config: Any, remote_code: bool, **options: Any) -> Any:
    """The model that the configuration describes; of an encoder-decoder, its encoder."""
    model = AutoModel.from_config(config, trust_remote_code=remote_code, **options)
    return take_encoder(model) if has_decoder(config) else model


def check_attention(encoder: Any, attention: str) -> None:
    """UserError where the encoder cannot compute its attention that way, or not on this machine."""
    # transformers would look for a kernel on a hub instead, and run it.
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise UserError(
            "train.attention is flash_attention_2, which needs an NVIDIA GPU and the package "
            "flash-attn; install it, or set train.attention to auto"
        )
    flags, own = SUPPORTED.get(attention), getattr(encoder, "_compatible_flash_implementations", ())
    lacking = flags and not any(getattr(encoder, flag, False) for flag in flags)
    if lacking or (attention == "flash_attention_2" and own and attention not in own):
        raise UserError(
            f"train.attention is {attention}, which {type(encoder).__name__} does not have; set it "
            "to auto or eager"
        )


def _attending(config: Any, attention: str) -> dict[str, str]:
    # ModernBERT of transformers 5.0 takes flash attention wherever it is installed, on a CPU too.
    if attention == "auto" and config.model_type == "modernbert":
        attention = "sdpa"
    return {} if attention == "auto" else {"attn_implementation": attention}


def read_config(folder: Path, remote_code: bool) -> Any:
    """The configuration, with sizes that are sizes: transformers builds encoders of width 0."""
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=remote_code
    )
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"):
        # Every encoder states the first three; attention is one way of several.
        size = getattr(config, name, 1) if name == "num_attention_heads" else getattr(config, name)
        if type(size) is not int or size < 1:
            raise ValueError(f"its {name} is {size!r}, expected a number of 1 or more")
    # BigBird's sparse attention chooses its blocks by the batch's length, and its first short batch
    # switches it to full attention for good: results would depend on what was read before.
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"
    # A decoder would keep every layer's keys and values for a next token that never comes;
    # ModernBERT of transformers 5.0 would compile itself anew for every length of a batch.
    for name in ("use_cache", "reference_compile"):
        if hasattr(config, name):
            setattr(config, name, False)
    return config
