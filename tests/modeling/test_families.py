"""Laws that every family of encoders keeps, from its folder to the vectors that are pooled."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.layers import checkpoint_activations
from poolblend.training.optimizers import OPTIMIZERS, parameter_groups
from poolblend.training.options import Train
from poolblend.training.recipes.layers import LayerDecay
from rig.families import (
    ABOVE,
    COUNTING_FROM_THE_LEFT,
    DECODERS,
    FAMILIES,
    N_LAYERS,
    READING_PADDING,
    WIDTH,
    depth_of,
)

every_family = pytest.mark.parametrize("name", FAMILIES)
DISTINCT = [name for name, family in FAMILIES.items() if family.layers]
LENGTHS = (9, 1, 5)


@every_family
def test_the_encoder_is_loaded_without_its_pooler_and_gives_one_state_per_layer(
    family_folder, name
):
    folder = family_folder(name)
    base = backbone.load(folder)
    assert backbone.check(folder, 62) == base.shape == (WIDTH, N_LAYERS, 48)
    assert {p.dtype for p in base.encoder.parameters()} == {torch.float32}
    assert not [key for key, _ in base.encoder.named_parameters() if "pooler" in key]
    assert not getattr(base.encoder.config, "use_cache", False)
    output = base.encoder(torch.full((3, 10), 5), output_hidden_states=True)
    assert [x_BTH.shape for x_BTH in output.hidden_states] == [(3, 10, WIDTH)] * ABOVE


@every_family
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_in_half_precision_it_is_told_alike_whether_padding_is_read(family_folder, name, dtype):
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    base = backbone.load(family_folder(name), dtype=dtype)
    assert base.reads_padding == (name in READING_PADDING)
    whole = backbone.load(family_folder(name)).encoder.state_dict()
    half = base.encoder.state_dict()
    other = [key for key, tensor in half.items() if not tensor.equal(whole[key].to(tensor.dtype))]
    assert not other
    assert kind in {tensor.dtype for tensor in half.values()}
    built = backbone.build(family_folder(name), dtype=dtype, weights=half).encoder
    assert all(tensor.equal(half[key]) for key, tensor in built.state_dict().items())
    assert not [key for key, tensor in built.named_buffers() if tensor.is_meta]


@every_family
@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_padding_changes_nothing_from_ids_to_vector(family_model, rows, padded, name, side):
    texts = rows(*LENGTHS)
    for pooler in ("mean", "last", "concat_layers"):
        model = family_model(name, side=side, pooler=pooler).eval()
        plain = family_model(name, pooler=pooler).eval()
        alone = torch.cat([plain.pool(padded([text])) for text in texts])
        # RoBERTa and similar encoders know padding on the right by its id.
        for pad, extra in ((1, 0), (7 if side == "left" else 1, 2)):
            batch = padded(texts, side=side, pad=pad, extra=extra)
            assert_close(model.pool(batch), alone, rtol=1e-5, atol=2e-6)


@every_family
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_that_is_read_is_noticed_and_left_out(family_folder, caplog, name, side):
    backbone._log_once.cache_clear()
    with caplog.at_level("INFO"):
        base = backbone.load(family_folder(name, side))
    left_out = name in READING_PADDING or (side == "left" and name in COUNTING_FROM_THE_LEFT)
    assert base.reads_padding == left_out
    assert ("depend on the padding beside it (relative difference" in caplog.text) == left_out


@pytest.mark.parametrize("name", READING_PADDING)
@torch.no_grad()
def test_rows_with_token_types_do_not_depend_on_those_beside(family_model, rows, padded, name):
    model, texts = family_model(name).eval(), rows(9, 5, 9, 1)
    together = padded(texts)._replace(types_BT=padded(texts).ids_BT % 2)
    alone = []
    for text in texts:
        one = padded([text])
        alone.append(model.pool(one._replace(types_BT=one.ids_BT % 2)))
    assert_close(model.pool(together), torch.cat(alone), rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_with_mask_none_a_row_is_read_with_its_padding(family_model, rows, padded):
    model, batch = family_model("convbert", mask="none").eval(), padded(rows(9, 5), extra=4)
    assert not model.equal_lengths
    one = padded(rows(9, 5)[1:], extra=8)
    assert_close(model.pool(batch)[1:], model.pool(one), rtol=1e-5, atol=2e-6)


class Watched(TorchDispatchMode):
    """Counts the numbers that are read from the device."""

    reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@every_family
@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_where_padding_is_known_no_mask_is_read_and_states_are_the_same_bits(
    family_model, rows, padded, name, side
):
    model = family_model(name, side=side).eval()
    if model.equal_lengths:
        pytest.skip("rows of equal length are found by reading the mask")
    for lengths in (LENGTHS, (5, 5)):
        batch = padded(rows(*lengths), side=side)
        with Watched() as watched:
            known = model.pool(batch._replace(padded=len(set(lengths)) > 1))
        assert watched.reads == 0
        assert torch.equal(known, model.pool(batch))


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "modernbert"])
@torch.no_grad()
def test_padding_on_the_right_may_hold_any_id(family_model, rows, padded, name):
    model = family_model(name).eval()
    expected = model.pool(padded(rows(*LENGTHS), pad=1))
    assert_close(model.pool(padded(rows(*LENGTHS), pad=7)), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_a_decoders_last_token_sees_every_other(family_model, rows, padded, name):
    last, first = (family_model(name, pooler=pooler).eval() for pooler in ("last", "cls"))
    (text,) = rows(6)
    changed = text.clone()
    changed[1] += 1
    assert_close(first.pool(padded([changed])), first.pool(padded([text])))
    assert (last.pool(padded([changed])) - last.pool(padded([text]))).abs().max() > 1e-4


@every_family
def test_a_row_as_long_as_the_positions_is_read_from_either_side(family_model, rows, padded, name):
    for side in ("right", "left"):
        model = family_model(name, side=side).eval()
        # RoBERTa's kin have two positions less: those up to the padding's index.
        n = 61 if name in ("roberta", "xlm-roberta", "mpnet") else 63
        assert model.pool(padded(rows(n, 2), side=side)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "limit"), [("gpt2", 64), ("roberta", 62), ("distilbert", 64), ("mpnet", 62)]
)
def test_absolute_positions_bound_the_length(tmp_path, family_folder, name, limit):
    folder = _copy(family_folder(name), tmp_path)
    _state(folder / "tokenizer_config.json", model_max_length=10**6)
    backbone.check(folder, limit)
    with pytest.raises(UserError, match=f"max_length is {limit + 1}, .* at most {limit} tokens"):
        backbone.check(folder, limit + 1)


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("pooler", ["attention", "weighted_layer"])
def test_every_parameter_has_one_rate_and_rates_rise_with_depth(family_model, name, pooler):
    model = family_model(name, pooler=pooler)
    rate = LayerDecay(layer_decay=0.5).rate
    groups = parameter_groups(model, lr=1e-3, head_lr=1e-2, weight_decay=0.1, factor=rate)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups)
    learned = {key: p for key, p in model.encoder.named_parameters() if p.requires_grad}
    others = [*model.pooler.parameters(), *model.head.parameters()]
    assert rates.keys() == {id(p) for p in (*learned.values(), *others)}
    top = max(depth_of(name, key) for key, _ in model.encoder.named_parameters())
    for key, parameter in learned.items():
        assert rates[id(parameter)] == pytest.approx(1e-3 * 0.5 ** (top - depth_of(name, key))), key
    for part in (model.pooler, model.head):
        assert {rates[id(p)] for p in part.parameters()} == {1e-2}
    assert list(model.pooler.parameters())


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - DISTINCT))
def test_a_decay_by_layers_is_refused_where_layers_share_their_weights(family_model, name):
    with pytest.raises(UserError, match=r"train.layer_decay is 0.9, .* AlbertModel share"):
        LayerDecay(layer_decay=0.9).check(family_model(name).encoder, Train(), "binary")


def gradients(model, batch):
    """The gradient of every parameter after a backward pass in training mode, dropout seeded."""
    model.train()
    torch.manual_seed(5)
    weights = torch.linspace(-1, 2, model.head.linear.out_features)
    (model(batch) * weights).square().sum().backward()
    return {key: p.grad for key, p in model.named_parameters() if p.requires_grad}


@every_family
def test_activations_computed_again_give_the_same_gradients(family_model, rows, padded, name):
    model, again = family_model(name), family_model(name)
    if not FAMILIES[name].checkpoints:
        with pytest.raises(
            UserError, match=r"train.gradient_checkpointing is true, which \w+ does"
        ):
            checkpoint_activations(again.encoder)
        return
    checkpoint_activations(again.encoder)
    assert sum(getattr(m, "gradient_checkpointing", False) for m in again.modules()) >= N_LAYERS
    batch = padded(rows(*LENGTHS))
    assert_close(gradients(again, batch), gradients(model, batch))


@every_family
def test_every_parameter_gets_a_gradient_and_one_step_changes_it(family_model, rows, padded, name):
    model = family_model(name, pooler="attention", side="left")
    learned = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    before = {key: p.detach().clone() for key, p in learned}
    found = gradients(model, padded(rows(*LENGTHS), side="left"))
    assert [key for key, grad in found.items() if grad is None or not grad.any()] == []
    rates = dict(lr=1e-2, head_lr=1e-2, weight_decay=0.0)
    OPTIMIZERS["adamw"](parameter_groups(model, **rates)).step()
    assert [key for key, p in learned if p.equal(before[key])] == []


@every_family
@torch.no_grad()
def test_an_encoder_built_from_what_was_saved_gives_the_same_vectors(
    tmp_path, family_folder, rows, padded, name
):
    base = backbone.load(family_folder(name, "left"))
    for part in base.parts:
        part.save_pretrained(str(tmp_path))
    built = backbone.build(tmp_path)
    built.encoder.load_state_dict(base.encoder.state_dict())
    batch = padded(rows(*LENGTHS), side="left")
    inputs = dict(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())
    expected = base.encoder.eval()(**inputs).last_hidden_state
    assert_close(built.encoder.eval()(**inputs).last_hidden_state, expected, rtol=0, atol=0)


@every_family
@torch.no_grad()
def test_weights_put_in_place_of_others_give_what_a_new_encoder_gives(
    tmp_path, family_folder, rows, padded, name
):
    """Also after rows that made the encoder change its own tables (positions, rotary)."""
    base = backbone.load(family_folder(name, "left"))
    for part in base.parts:
        part.save_pretrained(str(tmp_path))
    torch.manual_seed(3)
    sets = [
        {
            key: x if x.dtype.is_floating_point is False else x + 0.1 * torch.randn_like(x)
            for key, x in base.encoder.state_dict().items()
        }
        for _ in range(2)
    ]
    batches = [padded(rows(*lengths), side="left") for lengths in ((40, 3), LENGTHS)]

    def read(encoder, batch):
        inputs = dict(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())
        return encoder.eval()(**inputs).last_hidden_state

    built = backbone.build(tmp_path)
    for tensors in (*sets, sets[0]):
        swapped, new = backbone.fresh(built).encoder, backbone.build(tmp_path).encoder
        for encoder in (swapped, new):
            encoder.load_state_dict(tensors)
        for batch in batches:
            assert_close(read(swapped, batch), read(new, batch), rtol=0, atol=0)
    held = {id(p) for p in built.encoder.parameters()}
    assert {id(p) for p in swapped.parameters()} == held


def test_layers_above_those_there_are_are_refused_by_the_pooler(family_model):
    pooling = dict(pooler="weighted_layer", pooler_args={"layer_start": N_LAYERS + 1})
    with pytest.raises(UserError, match=r"layer_start is 4; set it to a whole number from -4 to 3"):
        family_model("gpt2", **pooling)


def test_a_mask_kept_among_the_weights_is_no_surplus_layer(tmp_path, family_folder):
    """GPT-2's published weights hold each layer's causal mask."""
    folder = _copy(family_folder("gpt2"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(N_LAYERS)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(N_LAYERS)}
    save_file(weights | masks, folder / "model.safetensors", metadata={"format": "pt"})
    assert backbone.load(folder).shape.n_layers == N_LAYERS


# --- attention --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2", "modernbert", "llama"])
@torch.no_grad()
def test_attention_is_computed_as_asked(tmp_path, family_folder, rows, padded, name):
    folder, batch = family_folder(name), padded(rows(*LENGTHS))
    outputs = []
    for attention in ("eager", "sdpa"):
        base = backbone.load(folder, attention=attention)
        assert base.encoder.config._attn_implementation == attention
        assert backbone.check(folder, 16, attention=attention) == base.shape
        for part in base.parts:
            part.save_pretrained(str(tmp_path))
        built = backbone.build(tmp_path, attention=attention).encoder
        assert built.config._attn_implementation == attention
        inputs = dict(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())
        outputs.append(base.encoder.eval()(**inputs).last_hidden_state[batch.attention_BT])
    assert_close(*outputs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("read", [backbone.check, backbone.load, backbone.build])
@pytest.mark.parametrize(
    ("name", "attention", "line"),
    [
        ("deberta-v3", "sdpa", r"train.attention is sdpa, which DebertaV2Model does not have; set"),
        ("bert", "flash_attention_2", r"train.attention is flash_attention_2, which needs .* GPU"),
    ],
)
def test_an_attention_that_is_not_there_is_refused(family_folder, read, name, attention, line):
    arguments = (16,) if read is backbone.check else ()
    with pytest.raises(UserError, match=line) as caught:
        read(family_folder(name), *arguments, attention=attention)
    assert "\n" not in str(caught.value)


def test_flash_attention_is_refused_where_the_family_lacks_it(family_folder, monkeypatch):
    monkeypatch.setattr("poolblend.modeling.encoders.is_flash_attn_2_available", lambda: True)
    with pytest.raises(UserError, match="which DebertaV2Model does not have; set it to auto"):
        backbone.load(family_folder("deberta-v3"), attention="flash_attention_2")


def _copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def _state(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
