"""A backbone's copy in the store, for fold models that hold only what differs from it."""

from __future__ import annotations

import hashlib
import logging

from poolblend.cards.backbone import BaseCard
from poolblend.cards.card import DamagedError
from poolblend.cards.fold import BackboneHashes, FoldBase
from poolblend.cards.provenance import Provenance
from poolblend.config import Config, Member
from poolblend.loading.models import load_backbone
from poolblend.modeling import backbone
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.store.backbones import Copied

log = logging.getLogger(__name__)


def keep_base(
    config: Config,
    store: Store,
    member: Member,
    located: Located,
    loaded: backbone.Backbone | None = None,
) -> FoldBase | None:
    """The member's backbone in the store, copied there if it is not yet; one for all its folds.

    It is read for that, unless `loaded` is the backbone with its own weights. After `backbone.mlm`
    it is there already. None where its weights are several files.
    """
    if member.backbone.mlm:
        return store.backbone(member.backbone.name).as_base()
    files = store.base(_name(member, located))
    if not _is_whole(files):
        with files.lock:  # other processes train other folds
            if not _is_whole(files):
                base = loaded or load_backbone(member, located, config.remote_code)
                _copy(base, files, located)
    return files.as_base()


def _name(member: Member, located: Located) -> str:
    """The backbone's name with a hash: another backbone may be given the same name."""
    hashes, dtype = f"{located.weights_sha256} {located.files_sha256}", member.backbone.dtype
    if dtype != "fp32":
        hashes += f" {dtype}"
    return f"{member.backbone.name[:80]}-{hashlib.sha256(hashes.encode()).hexdigest()[:12]}"


def _is_whole(files: Copied) -> bool:
    try:
        return files.check() is not None
    except DamagedError as error:
        log.info("written again: %s", str(error).partition("; ")[0])
        return False


def _copy(base: backbone.Backbone, files: Copied, located: Located) -> None:
    files.save(
        parts=(backbone.Weights(base.encoder), *base.parts),
        make_card=lambda hashes: BaseCard(
            backbone=files.name,
            provenance=Provenance.here(),
            files=hashes,
            source=BackboneHashes(
                weights_sha256=located.weights_sha256, files_sha256=located.files_sha256
            ),
        ),
    )
