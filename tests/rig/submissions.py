"""A small card of a submission, for tests of what writes or reads one."""

from poolblend.cards.provenance import Provenance
from poolblend.cards.submission import BlendInUse, SubmissionCard


def submission_card(file):
    return SubmissionCard(
        run="toy",
        values="labels",
        columns={"target": "label"},
        positive=None,
        blend=BlendInUse(blender="equal", metric="f1", sentence="One member.", written="today"),
        weights={"m": 1.0},
        test_sha256="0" * 64,
        rows=1,
        device="cpu",
        provenance=Provenance.here(),
        file=file,
    )
