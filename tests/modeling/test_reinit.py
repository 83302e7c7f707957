"""Fresh weights for the last layers: as the family draws them, and nowhere else."""

import pytest
import torch

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.layers import reinitialise
from rig.families import FAMILIES, N_LAYERS, depth_of

DISTINCT = [name for name, family in FAMILIES.items() if family.layers]


def states(encoder):
    return {key: value.clone() for key, value in encoder.state_dict().items()}


@pytest.fixture
def trained(family_folder):
    """Function of a family's name: its encoder as loaded, moved away from all it began as."""

    def encoder(name):
        model = backbone.load(family_folder(name)).encoder
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.5)
        return model

    return encoder


@pytest.mark.parametrize("n", [1, N_LAYERS])
@pytest.mark.parametrize("name", DISTINCT)
def test_the_last_layers_begin_anew_and_all_else_is_as_before(trained, family_folder, name, n):
    encoder = trained(name)
    before = states(encoder)
    torch.manual_seed(0)
    reinitialise(encoder, n)
    drawn = dict(backbone.build(family_folder(name)).encoder.named_parameters())
    for key, parameter in encoder.named_parameters():
        fresh = N_LAYERS - n < depth_of(name, key) <= N_LAYERS
        assert parameter.equal(before[key]) != fresh, key
        if fresh and len(drawn[key].unique()) > 1:
            # GPT-2 draws what enters its residual stream from a narrower distribution.
            assert parameter.std().item() == pytest.approx(drawn[key].std().item(), rel=0.4), key
            assert abs(parameter.mean()) < drawn[key].std() / 2
            assert not parameter.equal(drawn[key])
        elif fresh:  # biases 0, norms 1, or 0 where 1 is added to them
            assert parameter.equal(drawn[key]), key
            assert parameter.unique().tolist() in ([0], [1])


def test_the_draw_is_of_the_global_generator(trained):
    encoders = [trained("bert") for _ in range(3)]
    for encoder, seed in zip(encoders, (1, 1, 2), strict=True):
        torch.manual_seed(seed)
        reinitialise(encoder, 1)
    first, same, other = (e.encoder.layer[-1].output.dense.weight for e in encoders)
    assert first.equal(same)
    assert not first.equal(other)


def test_none_is_none(trained):
    encoder = trained("bert")
    before = states(encoder)
    reinitialise(encoder, 0)
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("name", "n", "line"),
    [
        ("gpt2", 4, f"train.reinit_layers is 4, but the encoder has {N_LAYERS} layers; lower it"),
        ("albert", 1, "train.reinit_layers is 1, but the layers of AlbertModel share"),
    ],
)
def test_more_layers_than_there_are_are_refused(trained, name, n, line):
    with pytest.raises(UserError, match=line):
        reinitialise(trained(name), n)
