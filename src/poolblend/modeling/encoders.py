"""Of an encoder-decoder (T5, BART, Marian and their kin), the encoder, without its decoder."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModel, PreTrainedModel

from poolblend.errors import UserError

# The name of the word embeddings that an encoder and its decoder share.
SHARED = "shared"


class EncoderPart(NamedTuple):
    """How to read the encoder of an encoder-decoder from a checkpoint."""

    encoder: Any  # without numbers
    key_mapping: dict[str, str]  # from names in a checkpoint of both parts to the encoder's own


def has_decoder(config: Any) -> bool:
    """Whether the configuration describes an encoder-decoder.

    T5's own encoder class writes `is_encoder_decoder: false`, so the type decides first.
    """
    return type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING or getattr(
        config, "is_encoder_decoder", False
    )


def encoder_part(config: Any, remote_code: bool) -> EncoderPart | None:
    """The encoder of an encoder-decoder; None for any other model.

    Raises UserError where transformers does not give its encoder apart.
    """
    if not has_decoder(config):
        return None
    with torch.device("meta"):
        whole = AutoModel.from_config(config, trust_remote_code=remote_code)
        encoder = take_encoder(whole)
    names = {id(module): name for name, module in whole.named_modules()}
    prefix = rf"^(?:{re.escape(whole.base_model_prefix)}\.)?"
    words = next(n for n, m in encoder.named_modules() if m is encoder.get_input_embeddings())
    shared = {SHARED, names.get(id(whole.get_input_embeddings()), SHARED)}
    mapping = {rf"{prefix}{re.escape(names[id(encoder)])}\.": ""}
    mapping |= {rf"{prefix}{re.escape(name)}\.": f"{words}." for name in sorted(shared)}
    return EncoderPart(encoder, mapping)


def take_encoder(whole: Any) -> Any:
    """The encoder within `whole`; UserError where it is not a model of its own."""
    encoder = whole.get_encoder()
    if encoder is whole or not isinstance(encoder, PreTrainedModel):
        raise UserError(
            f"{type(whole).__name__} has an encoder and a decoder, and transformers does not give "
            "its encoder alone; choose another backbone"
        )
    return encoder
