"""The jobs of a config, and what they share in this process, as train.py plans them."""

from poolblend.jobs.context import Context
from poolblend.jobs.planning import plan_jobs
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import check_members


def planned(settings):
    """The context, the jobs of backbones, and those of folds."""
    members = settings.resolve_members()
    located = check_members(settings, members)
    store = open_store(settings)
    competition = load_competition(settings, store, make_folds=True)
    backbones = {member.backbone: located[member.name] for member in members}
    context = Context(settings, competition, store, backbones, Watch())
    folds = range(settings.folds.n)
    return context, *plan_jobs(settings, competition, store, located, members, folds)
