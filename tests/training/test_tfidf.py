"""Models of n-grams predict what scikit-learn's pipeline predicts, also from their tensors."""

import itertools
import re

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union

from poolblend.errors import UserError
from poolblend.modeling.options import Tfidf
from poolblend.training import tfidf
from poolblend.training.objectives import choose_objective
from poolblend.training.tfidf import TfidfModel, fit_tfidf
from rig.toys import toy_frame

N, C = 90, 2.5
K = {"binary": 1, "multiclass": 3, "multilabel": 2, "regression": 2}
CASES = [
    *itertools.product(("logistic", "nb"), ("binary", "multiclass", "multilabel")),
    ("ridge", "regression"),
]


def learn(kind, task, options=None, columns_NF=None, weights=None, texts=None):
    """A model of the toy competition's first rows; their texts, and targets as they are encoded."""
    frame = toy_frame(task, N)
    y = frame.iloc[:, 1:].to_numpy()
    y = np.unique(y, return_inverse=True)[1].ravel() if task == "multiclass" else y
    texts = frame["text"].tolist() if texts is None else texts
    objective = choose_objective(task, n_outputs=K[task])
    targets = objective.targets(y.squeeze())
    weights = np.ones((N, 1)) if weights is None else weights
    objective = objective.fitted(targets, weights)
    given = (options or Tfidf(), kind, texts, columns_NF, objective.scale(targets), weights)
    return fit_tfidf(*given, objective, task_kind=task, C=C), texts, y.squeeze(), targets


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_it_predicts_what_scikit_learns_pipeline_predicts(kind, task):
    model, texts, y, targets = learn(kind, task)
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
    )
    heads = {
        "logistic": LogisticRegression(C=C, max_iter=1000),
        "nb": MultinomialNB(alpha=1 / (2 * C)),
        "ridge": Ridge(alpha=1 / (2 * C)),
    }
    head = OneVsRestClassifier(heads[kind]) if task == "multilabel" else heads[kind]
    y = (targets - targets.mean(axis=0)) / targets.std(axis=0) if task == "regression" else y
    reference = make_pipeline(features, head).fit(texts, y)
    logits_NL = model.logits(texts, None)
    if task == "regression":
        np.testing.assert_allclose(logits_NL, reference.predict(texts), atol=1e-3)
        return
    expected_NK = reference.predict_proba(texts)
    expected_NK = expected_NK[:, 1:] if task == "binary" else expected_NK
    activation = softmax if task == "multiclass" else expit
    pred_NK = softmax(logits_NL, axis=1) if activation is softmax else expit(logits_NL)
    np.testing.assert_allclose(pred_NK, expected_NK, atol=1e-3)


def test_a_model_of_its_tensors_predicts_the_same_bits_row_by_row(monkeypatch):
    odd = ["½ \ud800 half", "a\nb\r\nc\x00d\x85e\x1cf\u2028g", "É́ é e", "", "😀😀 😀"]
    texts = [f"{text} {odd[i % 5]}" for i, text in enumerate(toy_frame("multilabel", N)["text"])]
    columns_NF = np.arange(2 * N, dtype=np.float32).reshape(N, 2) % 5
    model, *_ = learn("logistic", "multilabel", columns_NF=columns_NF, texts=texts)
    tensors = {name: tensor.clone() for name, tensor in model.stored().items()}
    again = TfidfModel.load(Tfidf(), tensors, 2, 2)
    together = model.logits(texts, columns_NF)
    monkeypatch.setattr(tfidf, "ROWS_AT_ONCE", 7)
    assert (again.logits(texts, columns_NF) == together).all()
    alone = again.logits(texts[3:4], columns_NF[3:4])
    assert (alone == together[3:4]).all()
    assert (again.logits(texts, 2 * columns_NF) != together).any()


def test_a_row_of_weight_two_counts_as_two_rows():
    weights = np.ones((N, 1))
    model, texts, _, targets = learn("logistic", "binary", Tfidf(min_df=1))
    weights[0] = 2
    weighted, *_ = learn("logistic", "binary", Tfidf(min_df=1), weights=weights)
    assert np.abs(weighted.logits(texts, None) - model.logits(texts, None)).max() > 1e-3
    heavier = weighted.logits(texts[:1], None) - model.logits(texts[:1], None)
    assert np.sign(heavier) == np.sign(targets[0] - 0.5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (Tfidf(words=None), {"characters"}),
        (Tfidf(characters=None), {"words"}),
        (Tfidf(words=[3, 3], min_df=80), {"characters"}),  # no run of three words is so frequent
    ],
)
def test_only_n_grams_that_are_wanted_and_found_are_kept(options, names):
    texts = ["a" * 9 + f" {n}" for n in range(N)]
    options = options.model_copy(update={"min_df": min(options.min_df, 80)})
    model, *_ = learn("logistic", "binary", options, texts=texts)
    assert set(model.vectorizers) == names
    assert {name.split(".")[0] for name in model.stored()} == {*names, "weight_LF", "bias_L"}


def test_the_most_frequent_n_grams_are_kept_where_they_are_limited():
    model, *_ = learn("logistic", "binary", Tfidf(max_features=5))
    assert [len(each.idf_) for each in model.vectorizers.values()] == [5, 5]


@pytest.mark.parametrize("texts", [[""] * N, [f"{n:04b}" * 3 for n in range(N)]])
def test_texts_without_a_frequent_n_gram_are_refused_in_one_line(texts):
    with pytest.raises(UserError, match=f"is in {N} of the {N} training texts: lower model.min_df"):
        learn("logistic", "binary", Tfidf(min_df=N), texts=texts)


def _without(name):
    return lambda tensors: tensors.pop(name)


def _with(name, change):
    return lambda tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without("weight_LF"), "no tensor weight_LF"),
        (_without("words.idf"), "no tensor words.idf"),
        (_without("characters.terms"), "weight_LF is float32 of shape"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "unexpected tensor more"),
        (lambda tensors: [tensors.pop(f"{name}.terms") for name in tfidf.ANALYSERS], "no n-grams"),
        (_with("weight_LF", torch.Tensor.double), "weight_LF is float64"),
        (_with("weight_LF", torch.Tensor.bfloat16), "BFloat16"),
        (_with("weight_LF", lambda each: each[:, 1:]), "weight_LF is float32 of shape"),
        (_with("bias_L", lambda each: each.repeat(2)), "bias_L is float64 of shape"),
        (_with("words.idf", lambda each: each[1:]), "words.idf is float64 of shape"),
        (_with("words.terms", lambda each: each | 0x80), "can't decode byte"),
        (_with("words.terms", lambda each: each * 0 + 10), "words.idf is float64 of shape"),
        (_with("words.terms", torch.Tensor.int), "words.terms is int32"),
    ],
)
def test_tensors_of_another_model_are_refused(damage, says):
    model, *_ = learn("logistic", "binary")
    tensors = model.stored()
    damage(tensors)
    with pytest.raises(ValueError, match=re.escape(says)):
        TfidfModel.load(Tfidf(), tensors, 1, 0)


def test_a_vocabulary_that_repeats_an_n_gram_is_refused():
    model, *_ = learn("logistic", "binary", Tfidf(characters=None))
    tensors = model.stored()
    terms = bytes(tensors["words.terms"].tolist()).decode().split("\n")
    repeated = "\n".join([terms[1], *terms[1:]]).encode()
    tensors["words.terms"] = torch.tensor(list(repeated), dtype=torch.uint8)
    with pytest.raises(ValueError, match="Duplicate term"):
        TfidfModel.load(Tfidf(characters=None), tensors, 1, 0)
