"""Load an encoder and its tokenizer from a folder, after checking that it is safe and complete."""

from __future__ import annotations

import copy
import functools
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.dynamic_module_utils import custom_object_save

from poolblend.errors import UserError
from poolblend.modeling.encoders import check_attention, make_encoder, read_config, read_encoder
from poolblend.modeling.layers import layer_stacks
from poolblend.modeling.options import Dtype
from poolblend.modeling.padding import count_from_the_first_token, n_positions, padding_effect
from poolblend.modeling.poolers import EncoderShape
from poolblend.modeling.tokenizers import Kept, check_survives_saving, read_tokenizer
from poolblend.modeling.trust import files_as_of_now, readable

log = logging.getLogger(__name__)

# Texts on which a tokenizer is tested: empty, Latin, and other scripts.
PROBES = ("", "a text", "Ünïcode ☃ 東京")

# Computed tables that earlier versions of transformers saved with GPT-2's and Llama's layers.
COMPUTED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder without its own pooler, which `Pooler.adopt` may take over."""

    encoder: Any  # a transformers model
    tokenizer: Any
    shape: EncoderShape
    own_pooler: nn.Module | None
    kept: Kept  # the tokenizer's files, to be copied beside a model
    reads_padding: bool = False  # whether hidden states depend on padding

    @property
    def parts(self) -> tuple[Any, ...]:
        """What `build` needs in a fold model's folder; each has a method `save_pretrained`."""
        return (self.encoder.config, Code(self.encoder), self.kept)


class Weights(NamedTuple):
    """The tensors of an encoder, under the names of its `state_dict`."""

    encoder: Any

    def save_pretrained(self, folder: str) -> None:
        path = Path(folder) / "model.safetensors"
        save_file(self.encoder.state_dict(), path, metadata={"format": "pt"})


class Code(NamedTuple):
    """The Python files of an encoder with remote code; nothing for others."""

    encoder: Any

    def save_pretrained(self, folder: str) -> None:
        if self.encoder._auto_class is not None:
            custom_object_save(self.encoder, folder, config=self.encoder.config)


def check(
    folder: Path,
    max_length: int,
    *,
    remote_code: bool = False,
    attention: str = "auto",
    also: Callable[[Any], None] | None = None,
) -> EncoderShape:
    """The encoder's shape, after checking that its files are complete and belong to one model.

    Of the weights only names and shapes are read. Raises UserError for files that cannot be read or
    would run code, and where the encoder cannot read `max_length` tokens or lacks the `attention`.
    `also` is a further check, called with the encoder on the meta device. If the tokenizer states a
    smaller maximum length than `max_length`, this is logged.
    """
    with readable(folder, remote_code):
        tokenizer = read_tokenizer(folder, remote_code)
        encoder, _ = _outline(folder, remote_code)
        check_attention(encoder, attention)
        if also is not None:
            also(encoder)
        _check_tokenizer(folder, tokenizer, encoder.config.vocab_size)
        limit = n_positions(encoder)
        if max_length > limit:
            raise UserError(
                f"max_length is {max_length}, but {folder} reads at most {limit} tokens"
            )
        if max_length > tokenizer.model_max_length:
            _log_once(
                "%s: its tokenizer states at most %d tokens, but its encoder has no such limit; "
                "texts of up to max_length=%d tokens are read",
                folder,
                tokenizer.model_max_length,
                max_length,
            )
        return _shape(encoder.config)


@functools.cache  # members and folds share a backbone
def _log_once(message: str, *values: object) -> None:
    log.info(message, *values)


def _outline(folder: Path, remote_code: bool) -> tuple[Any, set[str]]:
    """The encoder on the meta device, and the names of the tensors that its weights lack.

    This needs no memory, whatever sizes the files state. Raises UserError where configuration and
    weights do not belong to one model.
    """
    encoder, loading = read_encoder(
        folder,
        remote_code,
        device_map="meta",
        ignore_mismatched_sizes=True,  # to name them
        output_loading_info=True,
    )
    for name, found, described in loading["mismatched_keys"]:
        raise UserError(
            f"{folder}: config.json describes {name} as {tuple(described)}, the weights hold "
            f"{tuple(found)}; they do not belong to one model"
        )
    missing = set(loading["missing_keys"])
    # Parameters that are not trained (Marian's positions) are computed and may be missing.
    computed = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    lost = sorted(name for name in missing - computed if not name.startswith("pooler."))
    if lost:
        raise UserError(
            f"{folder}: its weights lack {len(lost)} of the encoder's tensors, such as {lost[0]}; "
            "save the bare encoder there (transformers: model.base_model.save_pretrained(folder))"
        )
    surplus = _surplus_layers(encoder, loading["unexpected_keys"])
    if surplus:
        raise UserError(
            f"{folder}: config.json describes {encoder.config.num_hidden_layers} layers, the "
            f"weights hold more, such as {surplus[-1]}; correct num_hidden_layers, or save the "
            "shortened encoder again"
        )
    return encoder, missing


def _surplus_layers(encoder: Any, unexpected: Iterable[str]) -> list[str]:
    """The unexpected tensors that belong to additional layers."""
    prefix = re.escape(encoder.base_model_prefix)
    stacks = "|".join(map(re.escape, layer_stacks(encoder)))
    layer = re.compile(rf"({prefix}\.)?({stacks})\.\d+\.")
    return sorted(name for name in unexpected if layer.match(name) and not name.endswith(COMPUTED))


def _check_tokenizer(folder: Path, tokenizer: Any, vocab_size: int) -> None:
    """Refuse a tokenizer that fails on a text, or whose ids do not match the encoder."""
    used = max(id for text in PROBES for id in (0, *tokenizer(text)["input_ids"]))
    largest = max(used, *tokenizer.get_vocab().values())
    advice = "use both from one model (or, once: model.resize_token_embeddings(len(tokenizer)))"
    if largest >= vocab_size:
        raise UserError(
            f"{folder}: its tokenizer gives ids up to {largest}, its encoder knows ids below "
            f"{vocab_size}; {advice}"
        )
    # Vocabularies are padded to round numbers, not to twice their size.
    if len(tokenizer) < vocab_size / 2:
        raise UserError(
            f"{folder}: its tokenizer knows {len(tokenizer)} tokens, its encoder {vocab_size}; "
            f"{advice}"
        )


def load(
    folder: Path, *, remote_code: bool = False, attention: str = "auto", dtype: Dtype = "fp32"
) -> Backbone:
    """The encoder with its pretrained weights, and its tokenizer.

    `attention` is the implementation by transformers' name; auto: transformers chooses. Raises
    UserError where the weights cannot be read or are incomplete, where the attention cannot be
    computed in that way, or where a text's result depends on the other texts of a batch.
    """
    with readable(folder, remote_code):
        tokenizer = read_tokenizer(folder, remote_code)
        tried = (files_as_of_now(folder), remote_code, attention)
        missing = None if tried in _found else _missing(folder, remote_code, attention)
        encoder = read_encoder(folder, remote_code, attention=attention, dtype=dtype)
        backbone = _dissect(encoder, Kept(tokenizer, folder, remote_code))
        if missing is not None:
            reads = attention != "flash_attention_2"  # which runs on GPUs alone
            effect = padding_effect(encoder, tokenizer) if reads else 0.0
            _found[tried] = _Found(bool(missing), effect)
    found = _found[tried]
    if found.padding_effect:
        _log_once(
            "%s: a text's hidden states depend on the padding beside it (relative difference "
            "%.1e); only texts of equal length are read together, without padding",
            folder,
            found.padding_effect,
        )
    backbone = replace(backbone, reads_padding=found.padding_effect > 0)
    # If weights are missing in the checkpoint, the pooler is random and of no use.
    return replace(backbone, own_pooler=None) if found.lacks_weights else backbone


class _Found(NamedTuple):
    """What a folder's encoder was found to be when this process first loaded it."""

    lacks_weights: bool
    padding_effect: float


# Folds and members load the same folder many times; it is tried again when its files change.
_found: dict[tuple[Any, ...], _Found] = {}


def _missing(folder: Path, remote_code: bool, attention: str) -> set[str]:
    """The names of the tensors that the weights lack; UserError as of `load`."""
    outline, missing = _outline(folder, remote_code)
    check_attention(outline, attention)
    return missing


def build(
    folder: Path,
    *,
    remote_code: bool = False,
    attention: str = "auto",
    dtype: Dtype = "fp32",
    weights: Mapping[str, Tensor] | None = None,
) -> Backbone:
    """The same encoder with these weights, from the configuration beside a fold model.

    None: with random ones, to be loaded. Raises UserError where its attention cannot be computed
    in that way on this machine, or for weights of another encoder.
    """
    with readable(folder, remote_code):
        encoder = make_encoder(
            folder, remote_code, attention=attention, dtype=dtype, empty=weights is not None
        )
        tokenizer = read_tokenizer(folder, remote_code)
        built = _dissect(encoder, Kept(tokenizer, folder, remote_code))
        if weights is not None:
            # Copies: what a file is read into may be aligned differently from torch's memory.
            copies = {name: tensor.clone() for name, tensor in weights.items()}
            built.encoder.load_state_dict(copies, assign=True)
        return built


def fresh(built: Backbone) -> Backbone:
    """The encoder as it was built, in the same memory for its parameters; load them all anew.

    Tables and settings that an encoder changes while it reads (positions, rotary tables) are those
    of the beginning, so that no result depends on what was read before.
    """
    shared = {id(parameter): parameter for parameter in built.encoder.parameters()}
    return replace(built, encoder=copy.deepcopy(built.encoder, shared))


def load_tokenizer(folder: Path, *, remote_code: bool = False) -> Any:
    """The tokenizer in `folder`; UserError where there is none, or one without words."""
    with readable(folder, remote_code):
        return read_tokenizer(folder, remote_code)


def check_tokenizer_survives(
    folder: Path, ids: Callable[[Any], Sequence[Any]], *, remote_code: bool = False
) -> None:
    """Raise UserError where the folder's tokenizer, saved and read again, gives other ids.

    `ids` gives those of the run's texts by a tokenizer.
    """
    with readable(folder, remote_code):
        tokenizer = read_tokenizer(folder, remote_code)
        config = read_config(folder, remote_code)
        check_survives_saving(Kept(tokenizer, folder, remote_code), config, ids)


def _dissect(encoder: Any, kept: Kept) -> Backbone:
    """Remove the encoder's own pooler: every parameter must get a gradient."""
    tokenizer = kept.tokenizer
    own = getattr(encoder, "pooler", None)
    if own is not None:
        encoder.pooler = None
        own = own.float()  # a pooler learns, and half precision would lose small steps
    if tokenizer.padding_side == "left":
        count_from_the_first_token(encoder)
    return Backbone(encoder, tokenizer, _shape(encoder.config), own, kept)


def _shape(config: Any) -> EncoderShape:
    return EncoderShape(config.hidden_size, config.num_hidden_layers, config.vocab_size)
