"""A small card of every kind, for tests of what writes or reads one; nothing was trained."""

from poolblend import config
from poolblend.cards.backbone import (
    BackboneCard,
    BackboneInputs,
    BaseCard,
    HeldOutLoss,
    MlmRows,
)
from poolblend.cards.bundle import Agreement, BundleCard, HandedOver
from poolblend.cards.checkpoint import CheckpointCard
from poolblend.cards.fold import (
    BackboneHashes,
    FailureNote,
    FoldCard,
    FoldFileHashes,
    FoldInputs,
    RowCounts,
    TokenCount,
)
from poolblend.cards.folds import FoldsCard, FoldSettings
from poolblend.cards.hidden_states import HiddenStatesCard, HiddenStatesInputs
from poolblend.cards.inputs import FileHash
from poolblend.cards.predictions import Origin, PredictionsCard
from poolblend.cards.provenance import Provenance
from poolblend.cards.pseudo import PseudoCard, PseudoFold, PseudoMember
from poolblend.competition.tasks import Task
from poolblend.text_spec import TextSpec
from rig.blend_cards import blend_card
from rig.submissions import submission_card

HASH = "0" * 64
FILE = FileHash(sha256=HASH, bytes=1)
TASK = Task("binary", ("target",), (0, 1))


def fold_inputs(**fields):
    given = {
        "train_sha256": HASH,
        "folds_sha256": HASH,
        "task": TASK,
        "reading": TextSpec(max_length=16),
        "backbone_sha256": HASH,
        "backbone_files_sha256": HASH,
        "settings": {},
    }
    return FoldInputs(**given | fields)


def fold_card(files, member="m", fold=0, **fields):
    """The card of a fold whose files have these hashes."""
    (first, *_) = config.load(None, []).resolve_members()
    given = {
        "inputs": fold_inputs(),
        "backbone": BackboneHashes(weights_sha256=HASH, files_sha256=HASH),
        "seed": 1,
        "tokens": TokenCount(count=1, sha256=HASH),
        "rows": RowCounts(train=4, valid=2),
        "metric": "f1",
        "score": 0.8125,
        "device": "cpu",
        "precision": "fp32",
        "seconds": 0.1,
        "config": {},
        "provenance": Provenance.here(),
    }
    named = first.model_copy(update={"name": member})
    return FoldCard(member=named, fold=fold, files=files, **given | fields)


def backbone_inputs(seed=1):
    return BackboneInputs(
        source_sha256=HASH,
        source_files_sha256=HASH,
        train_texts_sha256=HASH,
        test_texts_sha256=HASH,
        reading=TextSpec(max_length=16),
        precision="fp32",
        seed=seed,
        mlm={},
    )


def backbone_card(files, name="tiny-mlm", seconds=0.1):
    return BackboneCard(
        backbone=name,
        inputs=backbone_inputs(),
        epochs=(),
        rows=MlmRows(train=4, held_out=1),
        held_out_loss=HeldOutLoss(before=3.0, after=2.5),
        device="cpu",
        precision="fp32",
        seconds=seconds,
        config={},
        provenance=Provenance.here(),
        files=files,
    )


def base_card(files, name="tiny-0123456789ab"):
    return BaseCard(
        backbone=name,
        source=BackboneHashes(weights_sha256=HASH, files_sha256=HASH),
        provenance=Provenance.here(),
        files=files,
    )


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


def pseudo_card():
    blend = blend_card()
    fold = PseudoFold(
        fold=0,
        without=0,
        members={"m": PseudoMember(fold=0, weight=1.0, weights_sha256=HASH)},
        mixture=blend.mixture,
    )
    return PseudoCard(
        run="toy",
        name="first",
        train_sha256=HASH,
        test_sha256=HASH,
        folds_sha256=HASH,
        task=TASK,
        blend=submission_card(FILE).blend,
        folds=(fold,),
        provenance=Provenance.here(),
    )


def states_inputs():
    return HiddenStatesInputs(
        backbone_sha256=HASH,
        backbone_files_sha256=HASH,
        rows_sha256=HASH,
        layers=(1, 3),
        precision="fp32",
        attention="auto",
        equal_lengths=False,
    )


def bundle_card():
    return BundleCard(
        run="toy",
        tables=("test.csv", "sample_submission.csv"),
        weights={"m": 1.0},
        agreement=Agreement(
            rows=9, largest=0.01, mean=0.001, metric="f1", score=0.5, half_score=0.25
        ),
        files={"config.yaml": FILE},
        provenance=Provenance.here(),
    )


def examples():
    """A card of every kind, by its class."""
    note = {"member": "m", "fold": 0, "reason": "größer als 1", "written": "today"}
    settings = FoldSettings(strategy="plain", seed=42, groups=None, keep_together="none", bins=None)
    origin = Origin(member="m", fold=0, table="test", what="vectors", hashes={"test_sha256": HASH})
    cards = [
        fold_card(FoldFileHashes(weights=FILE, oof=FILE, others={"tokenizer.json": FILE})),
        FailureNote(**note, inputs=fold_inputs().as_json()),
        backbone_card({"config.json": FILE}),
        base_card({"config.json": FILE}),
        checkpoint_card()("m/checkpoints/fold0/step-00000003", FILE),
        FoldsCard(settings=settings, folds_sha256=HASH),
        PredictionsCard(origin=origin, file=FILE),
        HiddenStatesCard(inputs=states_inputs(), shape=(9, 2, 3), file=FILE),
        pseudo_card(),
        blend_card(),
        submission_card(FILE),
        bundle_card(),
        HandedOver(dataset=HASH, notebook=HASH, version=2, submitted=1),
    ]
    return {type(card): card for card in cards}
