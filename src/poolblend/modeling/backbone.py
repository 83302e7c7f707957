"""Load an encoder and its tokenizer from a folder, once both are known to be safe and whole.

Shape legend: B batch, T tokens, H hidden, L layers (embeddings first).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub.constants
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.dynamic_module_utils import custom_object_save

from poolblend.errors import UserError
from poolblend.modeling.layers import layer_stacks
from poolblend.modeling.poolers import EncoderShape
from poolblend.modeling.trust import inspect

# Words of several scripts, and none of any: what a tokenizer makes of them, it makes of texts.
PROBES = ("", "a text", "Ünïcode ☃ 東京")


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder without its pooler, which is kept apart for the pooler that wants it."""

    encoder: Any  # a transformers model
    tokenizer: Any
    shape: EncoderShape
    own_pooler: nn.Module | None

    @property
    def parts(self) -> tuple[Any, ...]:
        """What `build` needs in a fold model's folder; each writes itself: `save_pretrained`."""
        return (self.encoder.config, self.tokenizer, Code(self.encoder))


class Code(NamedTuple):
    """The Python files of an encoder that came with its own; none of any other."""

    encoder: Any

    def save_pretrained(self, folder: str) -> None:
        if self.encoder._auto_class is not None:
            custom_object_save(self.encoder, folder, config=self.encoder.config)


def check(folder: Path, max_length: int, *, remote_code: bool = False) -> EncoderShape:
    """The encoder's shape, after a look that all is there, in order and of one model.

    Of the weights only names and shapes are read. Raises UserError for what cannot be read or would
    run code, and where the encoder cannot read `max_length` tokens.
    """
    with _readable(folder, remote_code):
        tokenizer = _read_tokenizer(folder, remote_code)
        encoder, _ = _outline(folder, remote_code)
        _check_tokenizer(folder, tokenizer, encoder.config.vocab_size)
        limit = min(tokenizer.model_max_length, _positions(encoder))
        if max_length > limit:
            raise UserError(
                f"max_length is {max_length}, but {folder} reads at most {limit} tokens"
            )
        return _shape(encoder.config)


def _outline(folder: Path, remote_code: bool) -> tuple[Any, set[str]]:
    """The encoder without its numbers, and the names of those that the weights lack.

    It takes no memory, whatever sizes the files name. Raises UserError where configuration and
    weights are not of one model.
    """
    encoder, loading = _read_encoder(
        folder,
        remote_code,
        device_map="meta",
        ignore_mismatched_sizes=True,  # to name them
        output_loading_info=True,
    )
    for name, found, described in loading["mismatched_keys"]:
        raise UserError(
            f"{folder}: config.json describes {name} as {tuple(described)}, the weights hold "
            f"{tuple(found)}; they are not of one model"
        )
    missing = set(loading["missing_keys"])
    lost = sorted(name for name in missing if not name.startswith("pooler."))
    if lost:
        raise UserError(
            f"{folder}: its weights lack {len(lost)} of the encoder's tensors, such as {lost[0]}; "
            "save the bare encoder there (transformers: model.base_model.save_pretrained(folder))"
        )
    prefix = re.escape(encoder.base_model_prefix)
    for stack in layer_stacks(encoder):
        layer = re.compile(rf"({prefix}\.)?{re.escape(stack)}\.\d+\.")
        if surplus := sorted(filter(layer.match, loading["unexpected_keys"])):
            raise UserError(
                f"{folder}: config.json describes {encoder.config.num_hidden_layers} layers, the "
                f"weights hold more, such as {surplus[-1]}; mend num_hidden_layers, or save the "
                "shortened encoder anew"
            )
    return encoder, missing


def _read_encoder(folder: Path, remote_code: bool, **options: Any) -> Any:
    return AutoModel.from_pretrained(
        folder,
        config=_load_config(folder, remote_code),
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=remote_code,
        **options,
    )


def _load_config(folder: Path, remote_code: bool) -> Any:
    """The configuration, with sizes that are sizes: transformers builds encoders of width 0."""
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=remote_code
    )
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"):
        # Every encoder states the first three; attention is one way of several.
        size = getattr(config, name, 1) if name == "num_attention_heads" else getattr(config, name)
        if type(size) is not int or size < 1:
            raise ValueError(f"its {name} is {size!r}, expected a number of 1 or more")
    return config


def _check_tokenizer(folder: Path, tokenizer: Any, vocab_size: int) -> None:
    """Refuse a tokenizer that fails on some text, or whose ids are not the encoder's."""
    used = max(id for text in PROBES for id in (0, *tokenizer(text)["input_ids"]))
    largest = max(used, *tokenizer.get_vocab().values())
    advice = "take both from one model (or, once: model.resize_token_embeddings(len(tokenizer)))"
    if largest >= vocab_size:
        raise UserError(
            f"{folder}: its tokenizer gives ids up to {largest}, its encoder knows those below "
            f"{vocab_size}; {advice}"
        )
    # Vocabularies are padded to round numbers, not to twice their size.
    if len(tokenizer) < vocab_size / 2:
        raise UserError(
            f"{folder}: its tokenizer knows {len(tokenizer)} tokens, its encoder {vocab_size}; "
            f"{advice}"
        )


def _positions(encoder: nn.Module) -> float:
    """How many absolute positions the encoder knows; infinity where it counts them relatively."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin begin to count behind the padding index.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return float("inf")


def load(folder: Path, *, remote_code: bool = False) -> Backbone:
    """The encoder with its pretrained weights, in fp32, and its tokenizer.

    Raises UserError where the weights are unreadable, or are not all of the encoder's.
    """
    with _readable(folder, remote_code):
        tokenizer = _read_tokenizer(folder, remote_code)
        _, missing = _outline(folder, remote_code)
        encoder = _read_encoder(folder, remote_code)
        _try(encoder, tokenizer)
    backbone = _dissect(encoder, tokenizer)
    # A pooler whose weights are not in the checkpoint is random: the same as having none.
    return replace(backbone, own_pooler=None) if missing else backbone


def _try(encoder: Any, tokenizer: Any) -> None:
    """Run one text, so that what cannot run fails here, and not within the training."""
    ids_BT = torch.tensor([tokenizer(PROBES[1])["input_ids"]])
    # Not in inference mode, since tensors that the encoder keeps from it could not be trained; some
    # attention draws random numbers, of which the training must not miss any.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        output = encoder(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT))
    if not output.last_hidden_state.isfinite().all():
        raise ValueError("a text's hidden states are not finite; its weights are damaged")


def build(folder: Path, *, remote_code: bool = False) -> Backbone:
    """The same encoder with random weights, from the configuration beside a fold model."""
    with _readable(folder, remote_code):
        config = _load_config(folder, remote_code)
        encoder = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=remote_code)
        return _dissect(encoder, _read_tokenizer(folder, remote_code))


def load_tokenizer(folder: Path, *, remote_code: bool = False) -> Any:
    """The tokenizer in `folder`; UserError where there is none, or none with words."""
    with _readable(folder, remote_code):
        return _read_tokenizer(folder, remote_code)


def _read_tokenizer(folder: Path, remote_code: bool) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=remote_code
    )
    # Without its files transformers makes a tokenizer that knows no word, and says nothing.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UserError(f"{folder} holds no tokenizer; save it beside the weights")
    return tokenizer


@contextmanager
def _readable(folder: Path, remote_code: bool) -> Iterator[None]:
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


def _dissect(encoder: Any, tokenizer: Any) -> Backbone:
    """Take the encoder's own pooler out, so that no parameter is left without a gradient."""
    own = getattr(encoder, "pooler", None)
    if own is not None:
        encoder.pooler = None
    return Backbone(encoder, tokenizer, _shape(encoder.config), own)


def _shape(config: Any) -> EncoderShape:
    return EncoderShape(config.hidden_size, config.num_hidden_layers, config.vocab_size)
