"""Small cards for tests of the store, whose artefacts nothing trained."""

from poolblend.cards.checkpoint import CheckpointCard
from poolblend.cards.provenance import Provenance


def checkpoint_card(step=3, inputs=None):
    """A function for `Checkpoints.save`: the card of a checkpoint with these inputs."""

    def make(place, state):
        return CheckpointCard(
            place=place,
            step=step,
            inputs=inputs or {},
            epochs=(),
            resumed=(),
            rest={},
            provenance=Provenance.here(),
            state=state,
        )

    return make
