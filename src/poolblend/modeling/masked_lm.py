"""Masked language modelling: an encoder learns to predict masked tokens.

Shapes: M hidden tokens of a batch, V vocabulary, W words, S special tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.backbone import Backbone
from poolblend.modeling.encoders import has_decoder
from poolblend.modeling.model import Batch, types_for
from poolblend.modeling.options import Mask
from poolblend.modeling.padding import count_from_the_first_token
from poolblend.modeling.passes import passes_of, read_in_passes
from poolblend.modeling.trust import readable

# Shares of the hidden tokens that become the mask token, and a random word.
# Source: BERT, Devlin et al. 2019, arXiv:1810.04805.
MASKED, REPLACED = 0.8, 0.1


class Hidden(NamedTuple):
    """Tokens as the encoder sees them, and which of them it is to predict."""

    ids_BT: Tensor
    chosen_BT: Tensor


def hide(ids_BT: Tensor, may_BT: Tensor, *, share: float, mask_id: int, words_W: Tensor) -> Hidden:
    """Choose `share` of the tokens where `may_BT` is True, at least one in each row that has any.

    80 % of them become the mask token, 10 % one of `words_W`, the rest stay. Random numbers come
    from torch's global generator on the CPU, so that every device sees the same.
    """
    drawn_BT = torch.rand(ids_BT.shape).to(ids_BT.device).masked_fill(~may_BT, 2.0)
    lowest_BT = torch.zeros_like(may_BT).scatter(1, drawn_BT.argmin(dim=1, keepdim=True), True)
    chosen_BT = may_BT & ((drawn_BT < share) | lowest_BT)
    how_BT = torch.rand(ids_BT.shape).to(ids_BT.device)
    word_BT = words_W[torch.randint(len(words_W), ids_BT.shape).to(ids_BT.device)]
    seen_BT = torch.where(how_BT < MASKED + REPLACED, word_BT, ids_BT)
    seen_BT = seen_BT.masked_fill(how_BT < MASKED, mask_id)
    return Hidden(torch.where(chosen_BT, seen_BT, ids_BT), chosen_BT)


class MaskedLanguageModel(nn.Module):
    """An encoder with a head that predicts tokens; the outputs are losses."""

    mask: Mask = "attention"

    special_S: Tensor
    words_W: Tensor

    def __init__(
        self, language: Any, tokenizer: Any, share: float, *, equal_lengths: bool = False
    ) -> None:
        super().__init__()
        self.equal_lengths = equal_lengths  # as TextModel
        # The encoder's parameters have two names here, so that an optimizer can separate the head.
        self.encoder, self.language = language.base_model, language
        self.share, self.mask_id = share, tokenizer.mask_token_id
        special = sorted(set(tokenizer.all_special_ids))
        words = sorted(set(tokenizer.get_vocab().values()) - set(special))
        self.register_buffer("special_S", torch.tensor(special), persistent=False)
        self.register_buffer("words_W", torch.tensor(words), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Each row's mean loss over the tokens hidden from it, (B, 1); 0 with nothing to hide."""
        may_BT = batch.content_BT & ~torch.isin(batch.ids_BT, self.special_S)
        seen = hide(
            batch.ids_BT, may_BT, share=self.share, mask_id=self.mask_id, words_W=self.words_W
        )
        types_BT = types_for(self.encoder, batch)
        inputs = (batch.ids_BT, batch.attention_BT, types_BT, seen.ids_BT, seen.chosen_BT)
        if self.equal_lengths:
            passes = passes_of(batch.attention_BT, most=len(batch.ids_BT), equal=True)
            (loss_BT1,) = read_in_passes(self._token_losses, passes, *inputs, recompute=False)
        else:
            (loss_BT1,) = self._token_losses(*inputs)
        return loss_BT1.sum(dim=1) / seen.chosen_BT.sum(dim=1, keepdim=True).clamp(min=1)

    def _token_losses(
        self,
        ids_BT: Tensor,
        attention_BT: Tensor,
        types_BT: Tensor | None,
        seen_BT: Tensor,
        chosen_BT: Tensor,
    ) -> tuple[Tensor]:
        """(B, T, 1); 0 for a token that was not chosen."""
        types = {} if types_BT is None else {"token_type_ids": types_BT}
        with self._head_sees(chosen_BT):
            logits_MV = self.language(
                input_ids=seen_BT, attention_mask=attention_BT.long(), **types
            ).logits[0]
        loss_M = F.cross_entropy(logits_MV.float(), ids_BT[chosen_BT], reduction="none")
        loss_BT = loss_M.new_zeros(chosen_BT.shape).masked_scatter(chosen_BT, loss_M)
        return (loss_BT[:, :, None],)

    @contextmanager
    def _head_sees(self, chosen_BT: Tensor) -> Iterator[None]:
        """Apply the head to these tokens only: logits of all tokens need most memory and time."""

        def keep(_: nn.Module, __: Any, output: Any) -> Any:
            output["last_hidden_state"] = output["last_hidden_state"][chosen_BT][None]
            return output

        hook = self.encoder.register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()


def check(folder: Path, max_length: int, *, remote_code: bool = False) -> None:
    """Raise UserError where the encoder in `folder` cannot be trained to predict hidden tokens.

    Its family needs a head for that, its tokenizer a mask token, and it must read `max_length`
    tokens.
    """
    try:
        backbone.check(folder, max_length, remote_code=remote_code, also=_check_family)
        if backbone.load_tokenizer(folder, remote_code=remote_code).mask_token_id is None:
            raise UserError(f"the tokenizer in {folder} has no mask token; leave it out")
    except UserError as error:
        raise UserError(f"backbone.mlm: {error}") from None


def _check_family(encoder: Any) -> None:
    own = getattr(encoder.config, "auto_map", None) or {}
    known = type(encoder.config) in MODEL_FOR_MASKED_LM_MAPPING
    # An encoder-decoder predicts words with its decoder, which is left out.
    if has_decoder(encoder.config) or not (known or AutoModelForMaskedLM.__name__ in own):
        raise UserError(
            f"{type(encoder).__name__} has no head that predicts masked tokens; leave it out, or "
            "choose an encoder such as BERT, RoBERTa or DeBERTa"
        )


def load_masked_lm(
    folder: Path, *, share: float, remote_code: bool = False
) -> tuple[Backbone, MaskedLanguageModel]:
    """The backbone from `backbone.load`, and a copy of its encoder with a head, to train.

    The head's weights are the checkpoint's where it has them, else drawn from torch's global
    generator. Raises UserError where the folder cannot be read.
    """
    base = backbone.load(folder, remote_code=remote_code)
    with readable(folder, remote_code):
        language = AutoModelForMaskedLM.from_pretrained(
            folder,
            config=copy.deepcopy(base.encoder.config),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=remote_code,
        )
        language.base_model.load_state_dict(base.encoder.state_dict())
    if base.tokenizer.padding_side == "left":
        count_from_the_first_token(language.base_model)
    model = MaskedLanguageModel(language, base.tokenizer, share, equal_lengths=base.reads_padding)
    return base, model


def trained_parts(base: Backbone, model: MaskedLanguageModel) -> tuple[Any, ...]:
    """The parts of a backbone's folder with the trained weights, its own pooler included.

    Each has a method `save_pretrained`. Do not use `base` afterwards: it is changed.
    """
    base.encoder.load_state_dict(model.encoder.state_dict())
    if base.own_pooler is not None:
        base.encoder.pooler = base.own_pooler
    return (base.encoder, base.kept)
