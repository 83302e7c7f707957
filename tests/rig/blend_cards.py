"""A small blend card, for tests of what reads one."""

from poolblend.cards.blend import (
    BlendCard,
    BlenderScores,
    BlendMember,
    Chosen,
    Diversity,
    FitOptions,
    Form,
    Interval,
    LossWithout,
    MemberOrigin,
    OutsideFile,
    Refitted,
    Weighting,
)
from poolblend.cards.provenance import Provenance
from poolblend.competition.tasks import Task

GAIN = Interval(value=0.0, low=-0.1, high=0.1)


def member(weight=1.0, **fields):
    given = {
        "origin": MemberOrigin(oof_file=OutsideFile(path="m.csv", sha256="0" * 64)),
        "weight": weight,
        "score": 0.7,
        "low": 0.6,
        "high": 0.8,
        "fold_scores": (0.7, 0.7),
        "without": LossWithout(value=0.1, low=0.05, high=0.2, verdict="adds"),
        "refitted": Refitted(mean=weight, low=weight, high=weight, zero=0.0),
        "error_correlation": None,
    }
    return BlendMember(**given | fields)


def blender(weights=((1.0,),), **fields):
    given = {
        "in_sample": 0.7,
        "honest": 0.7,
        "optimism": 0.0,
        "over_member": GAIN,
        "over_equal": GAIN,
        "space": "plain",
        "weights": weights,
        "fold_weights": ((1.0,), (1.0,)),
    }
    return BlenderScores(**given | fields)


def blend_card(**fields):
    """The card of one member `m` from elsewhere, with these fields instead."""
    given = {
        "run": "toy",
        "task": Task("binary", ("target",), (0, 1)),
        "positive": None,
        "metric": "f1",
        "blender": "equal",
        "sentence": "One member.",
        "choice": Chosen(
            blender="equal",
            automatic=True,
            metric="f1",
            honest=0.7,
            member="m",
            member_score=0.7,
            n_members=1,
            n_folds=2,
        ),
        "form": Form(space="plain", cuts=False),
        "mixture": Weighting(
            space="plain", quantiles=None, weights=((1.0,),), intercept=(0.0,), cuts=None
        ),
        "members": {"m": member()},
        "left_out": {},
        "blenders": {"equal": blender()},
        "simplest_first": ("equal",),
        "inputs": {},
        "rows": 60,
        "diversity": Diversity(
            prediction_correlation=None, error_correlation=None, sentence="Nothing to compare."
        ),
        "without_blender": "equal",
        "refitted_blender": "convex",
        "slices": {},
        "options": FitOptions(
            space="auto", weights="shared", thresholds="auto", trials=10, seed=42
        ),
        "config": {},
        "provenance": Provenance.here(),
    }
    return BlendCard(**given | fields)
