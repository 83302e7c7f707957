"""Tiny random encoders of many families, each with what is known of its layers; none downloaded."""

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

N_LAYERS = 3
WIDTH = 16
SIZES = dict(
    vocab_size=48,
    hidden_size=WIDTH,
    num_hidden_layers=N_LAYERS,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
)
ENDS = dict(bos_token_id=2, eos_token_id=3)
DEBERTA = dict(
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    norm_rel_ebd="layer_norm",
    share_att_key=True,
    position_buckets=8,
    position_biased_input=False,
    type_vocab_size=0,
)
T5 = dict(
    vocab_size=48,
    d_model=WIDTH,
    d_kv=8,
    d_ff=32,
    num_layers=N_LAYERS,
    num_decoder_layers=2,
    num_heads=2,
    relative_attention_num_buckets=32,
)
BART = dict(
    vocab_size=48,
    d_model=WIDTH,
    encoder_layers=N_LAYERS,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    max_position_embeddings=64,
)
ONE_KEY = dict(num_key_value_heads=1, head_dim=8, **ENDS)


@dataclass(frozen=True)
class Family:
    """A configuration, the module list of its layers, and what lies elsewhere than its place says.

    `depths` maps the start of a parameter's name to its depth; whatever is neither there nor in the
    layers lies at depth 0.
    """

    config: str
    sizes: dict[str, Any] = field(default_factory=dict)
    layers: str | None = "encoder.layer"  # None: shared
    depths: dict[str, int] = field(default_factory=dict)
    checkpoints: bool = True


ABOVE = N_LAYERS + 1
FAMILIES = {
    "bert": Family("BertConfig", SIZES),
    "roberta": Family("RobertaConfig", SIZES | dict(pad_token_id=1)),
    "xlm-roberta": Family("XLMRobertaConfig", SIZES | dict(pad_token_id=1)),
    "deberta-v2": Family(
        "DebertaV2Config",
        SIZES | DEBERTA | dict(conv_kernel_size=3, conv_act="gelu"),
        depths={"encoder.conv.": 1},
    ),
    "deberta-v3": Family("DebertaV2Config", SIZES | DEBERTA),
    "deberta-positions": Family(
        "DebertaV2Config", SIZES | DEBERTA | dict(position_biased_input=True)
    ),
    "electra": Family("ElectraConfig", SIZES | dict(embedding_size=8)),
    "albert": Family(
        "AlbertConfig",
        SIZES | dict(embedding_size=8),
        layers=None,
        depths={"encoder.albert_layer_groups.": N_LAYERS},
        checkpoints=False,
    ),
    "distilbert": Family(
        "DistilBertConfig",
        dict(vocab_size=48, dim=WIDTH, n_layers=N_LAYERS, n_heads=2, hidden_dim=32)
        | dict(max_position_embeddings=64),
        layers="transformer.layer",
    ),
    "mpnet": Family("MPNetConfig", SIZES, checkpoints=False),
    "modernbert": Family(
        "ModernBertConfig",
        SIZES
        | ENDS
        | dict(pad_token_id=0, cls_token_id=2, sep_token_id=3)
        | dict(global_attn_every_n_layers=2, local_attention=8),
        layers="layers",
        depths={"final_norm.": ABOVE},
    ),
    **{
        name: Family(config, T5, layers="block", depths={"final_layer_norm.": ABOVE})
        for name, config in (("t5", "T5Config"), ("mt5", "MT5Config"), ("umt5", "UMT5Config"))
    },
    **{
        name: Family(config, BART | more, layers="layers", depths={"layer_norm.": ABOVE})
        for name, config, more in (
            ("bart", "BartConfig", {}),
            ("mbart", "MBartConfig", {}),
            ("marian", "MarianConfig", dict(pad_token_id=0)),
            ("pegasus", "PegasusConfig", {}),
            ("m2m100", "M2M100Config", {}),
        )
    },
    # Its states depend on the padding beside a row.
    "convbert": Family(
        "ConvBertConfig", SIZES | dict(embedding_size=16, head_ratio=2, conv_kernel_size=5)
    ),
    "gpt2": Family(
        "GPT2Config",
        dict(vocab_size=48, n_embd=WIDTH, n_layer=N_LAYERS, n_head=2, n_positions=64, **ENDS),
        layers="h",
        depths={"ln_f.": ABOVE},
    ),
    **{
        name: Family(config, SIZES | ONE_KEY | more, layers="layers", depths={"norm.": ABOVE})
        for name, config, more in (
            ("llama", "LlamaConfig", {}),
            ("qwen3", "Qwen3Config", {}),
            ("mistral", "MistralConfig", dict(sliding_window=4)),
            ("gemma", "GemmaConfig", {}),
        )
    },
}
READING_PADDING = ("convbert",)
# With padding on the left their positions begin in it.
COUNTING_FROM_THE_LEFT = ("bart", "mbart", "marian", "pegasus", "m2m100")
ENCODER_DECODERS = ("t5", "mt5", "umt5", "bart", "mbart", "marian", "pegasus", "m2m100")
DECODERS = ("gpt2", "llama", "qwen3", "mistral", "gemma")


def write_family(folder, name, words):
    """Write the family's encoder, and the tokenizer of the folder `words`: decoders have no pad."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, family.config)(**family.sizes)
    AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(words)
    if name in DECODERS:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)


def depth_of(name, parameter):
    """How deep the family's parameter of that name lies."""
    family = FAMILIES[name]
    for start, depth in family.depths.items():
        if parameter.startswith(start):
            return depth
    if family.layers and parameter.startswith(f"{family.layers}."):
        return 1 + int(parameter.removeprefix(f"{family.layers}.").split(".")[0])
    return 0
