"""Linear models of TF-IDF weighted n-grams: fitted by scikit-learn, kept as tensors.

Shapes: N rows, F features, L logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from poolblend.errors import UserError
from poolblend.modeling.options import FrozenKind, Tfidf
from poolblend.training.head_fitting import fit_linear
from poolblend.training.objectives import Objective

ANALYSERS = {"words": "word", "characters": "char_wb"}  # scikit-learn's, by the option's name
SEPARATOR = "\n"  # between the stored n-grams: none holds a line break
ROWS_AT_ONCE = 10_000  # whose features are in memory


class TfidfModel:
    """Weights of n-grams and of extra columns; a row's logits do not depend on other rows."""

    def __init__(
        self,
        vectorizers: Mapping[str, TfidfVectorizer],
        weight_LF: np.ndarray,
        bias_L: np.ndarray,
    ) -> None:
        self.vectorizers, self.weight_LF, self.bias_L = vectorizers, weight_LF, bias_L

    def logits(self, texts: Sequence[str], columns_NF: np.ndarray | None) -> np.ndarray:
        """The logits (N, L) float64 of texts and of the columns beside them."""
        weight_FL = self.weight_LF.T.astype(np.float64)
        parts = [np.zeros((0, len(self.bias_L)))]
        for start in range(0, len(texts), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            columns = None if columns_NF is None else columns_NF[rows]
            blocks = [each.transform(texts[rows]) for each in self.vectorizers.values()]
            x_NF = _side_by_side(blocks, columns)
            parts.append(x_NF @ weight_FL + self.bias_L)
        return np.concatenate(parts)

    def stored(self, *, on_base: bool = False) -> dict[str, Tensor]:
        """The model as tensors, from which `load` makes it again; it has no base."""
        tensors = {"weight_LF": self.weight_LF, "bias_L": self.bias_L}
        for name, vectorizer in self.vectorizers.items():
            terms = SEPARATOR.join(vectorizer.get_feature_names_out())
            tensors[f"{name}.terms"] = np.frombuffer(terms.encode(*UTF8), np.uint8).copy()
            tensors[f"{name}.idf"] = vectorizer.idf_
        return {name: torch.from_numpy(array) for name, array in tensors.items()}

    @classmethod
    def load(
        cls, options: Tfidf, tensors: Mapping[str, Tensor], n_logits: int, n_columns: int
    ) -> TfidfModel:
        """The model of these tensors; ValueError where they are no such model's."""
        try:
            left = {name: tensor.numpy() for name, tensor in tensors.items()}
        except TypeError as error:  # numpy has no bfloat16
            raise ValueError(str(error)) from None
        vectorizers = {}
        for name in ANALYSERS:
            if getattr(options, name) is not None and f"{name}.terms" in left:
                terms = _take(left, f"{name}.terms", np.uint8, None).tobytes().decode(*UTF8)
                known = terms.split(SEPARATOR)
                vectorizers[name] = _vectorizer(options, name, vocabulary=known)
                vectorizers[name].idf_ = _take(left, f"{name}.idf", np.float64, len(known))
        if not vectorizers:
            raise ValueError("no n-grams")
        n_features = sum(len(each.idf_) for each in vectorizers.values()) + n_columns
        weight_LF = _take(left, "weight_LF", np.float32, n_logits, n_features)
        model = cls(vectorizers, weight_LF, _take(left, "bias_L", np.float64, n_logits))
        if left:
            raise ValueError(f"unexpected tensor {min(left)}")
        return model


# A text may hold half of a surrogate pair, which UTF-8 proper has no bytes for.
UTF8 = ("utf-8", "surrogatepass")


def _take(left: dict[str, Any], name: str, dtype: type, *shape: int | None) -> np.ndarray:
    """The array, removed from `left`; ValueError unless it has that type and shape."""
    array = left.pop(name, None)
    if array is None:
        raise ValueError(f"no tensor {name}")
    fits = array.ndim == len(shape) and all(
        n in (None, m) for n, m in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def fit_tfidf(
    options: Tfidf,
    kind: FrozenKind,
    texts: Sequence[str],
    columns_NF: np.ndarray | None,
    targets_NL: np.ndarray,
    weights_NL: np.ndarray,
    objective: Objective,
    *,
    task_kind: str,
    C: float,
) -> TfidfModel:
    """A model fitted to these rows alone, as it is once stored and loaded.

    Words, characters and columns each have a (mean) squared length of 1, so that one `C` suits
    all. Raises UserError where the texts hold no n-gram that is frequent enough.
    """
    tried = {name: _fitted(options, name, texts) for name in ANALYSERS}
    fitted = {name: each for name, each in tried.items() if each is not None}
    if not fitted:
        raise UserError(
            f"no word or character sequence is in {options.min_df} of the {len(texts)} training "
            "texts: lower model.min_df"
        )
    x_NF = _side_by_side([block for _, block in fitted.values()], columns_NF)
    weight_LF, bias_L = fit_linear(
        kind, x_NF, targets_NL, weights_NL, objective, task_kind=task_kind, C=C
    )
    vectorizers = {name: vectorizer for name, (vectorizer, _) in fitted.items()}
    model = TfidfModel(vectorizers, weight_LF.astype(np.float32), bias_L.astype(np.float64))
    n_columns = 0 if columns_NF is None else columns_NF.shape[1]
    return TfidfModel.load(options, model.stored(), len(bias_L), n_columns)


def _fitted(
    options: Tfidf, name: str, texts: Sequence[str]
) -> tuple[TfidfVectorizer, csr_matrix] | None:
    """Fitted to the texts, and what it makes of them; None where n-grams are not wanted or rare."""
    if getattr(options, name) is None or len(texts) < options.min_df:
        return None
    vectorizer = _vectorizer(
        options, name, min_df=options.min_df, max_features=options.max_features
    )
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


def _vectorizer(options: Tfidf, name: str, **settings: Any) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=ANALYSERS[name],
        ngram_range=tuple(getattr(options, name)),
        sublinear_tf=True,
        **settings,
    )


def _side_by_side(blocks: Sequence[csr_matrix], columns_NF: np.ndarray | None) -> csr_matrix:
    """The rows' n-grams and columns, (N, F) float64."""
    if columns_NF is None:
        return hstack(blocks, format="csr")
    scale = np.sqrt(max(1, columns_NF.shape[1]))
    return hstack([*blocks, csr_matrix(columns_NF.astype(np.float64) / scale)], format="csr")
