"""The models of a run's store over the rows of a table."""

from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.texts import Texts


def fold_models(settings, store, table, name):
    how = (settings.remote_code, settings.batch_tokens)
    return FoldModels(store, Texts(table, name, *how), how[1], remote_code=how[0])
