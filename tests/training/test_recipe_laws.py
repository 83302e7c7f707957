"""Laws of every registered recipe, tried at the first example of its main option."""

import numpy as np
import pytest
import torch
from pydantic import Field

from poolblend.errors import UserError
from poolblend.registry import Registry
from poolblend.training import recipes
from poolblend.training.options import Loop, Train
from poolblend.training.recipes import RECIPES, Recipe, active_recipes, with_recipes
from rig.trainings import Killed, kill_after, weights, written

every_recipe = pytest.mark.parametrize("name", RECIPES)


def example(name):
    return {name: RECIPES[name].model_fields[name].examples[0]}


@pytest.fixture
def begun(build, data, fitting):
    """A training of a new model with these options."""

    def begun(seed=0, **options):
        try:
            model = build(seed, norm="layer", **options)
        except UserError as error:
            if "needs the package" not in str(error):
                raise
            pytest.skip(str(error))
        torch.manual_seed(7)
        return fitting(model, data, **options)

    return begun


def finished(fit):
    """The weights that are kept; the second of three epochs is the best."""
    for epoch in fit.run():
        if fit.end_epoch(-abs(epoch.number - 2), np.full((64, 1), epoch.number)):
            break
    return weights(fit.finish())


@every_recipe
def test_a_recipe_changes_what_is_kept_and_a_resumed_training_ends_in_the_same_bits(begun, name):
    options = example(name)
    whole = finished(begun(**options))
    plain = finished(begun())
    assert whole.shape == plain.shape
    assert not torch.equal(whole, plain)
    killed = begun(**options)
    with pytest.raises(Killed):
        for epoch in killed.run(after_step=kill_after(20)):
            killed.end_epoch(-abs(epoch.number - 2), np.full((64, 1), epoch.number))
    state = written(killed.state())
    resumed = begun(seed=5, **options)
    torch.manual_seed(99)
    resumed.restore(state)
    assert torch.equal(finished(resumed), whole)


@every_recipe
def test_at_its_default_a_recipe_is_switched_off(name):
    default = Train.model_fields[name].default
    assert active_recipes(Train()) == active_recipes(Train(**{name: default})) == []
    (active,) = active_recipes(Train(**example(name)))
    assert type(active) is RECIPES[name]


@every_recipe
def test_every_option_of_a_recipe_is_described_in_a_sentence(name):
    for key in RECIPES[name].model_fields:
        assert Train.model_fields[key].description.endswith("."), key


def test_a_new_recipe_is_one_class(begun, monkeypatch):
    """Registering it makes its option a key of `train:`, and its hooks are called."""
    fit, again, registry = begun(), begun(), Registry("recipe")
    monkeypatch.setattr(recipes, "RECIPES", registry)
    monkeypatch.setattr(recipes.contract, "RECIPES", registry)

    @recipes.register("half_loss")
    class HalfLoss(Recipe):
        """Multiply the loss by this."""

        half_loss: float = Field(1.0, gt=0, examples=[0.5])

        def loss(self, loss_B, logits, weights, objective):
            return loss_B * self.half_loss

    composed = with_recipes(Loop)
    assert composed.model_fields["half_loss"].description == "Multiply the loss by this."
    (active,) = active_recipes(composed(half_loss=0.25))
    again._gradients.recipes = [active]
    losses = []
    for each in (fit, again):
        torch.manual_seed(7)
        losses.append(each._gradients.of_step(fit._steps[0][0], 0, fit.n_steps))
    assert losses[1] == losses[0] / 4
