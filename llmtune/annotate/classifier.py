"""A quick classifier of texts: TF-IDF of words and character sequences, and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtune.errors import LlmtuneError
from llmtune.extras import need

FOLDS = 5
_FOR = "a classifier of labels"
_READ = 4000  # characters of a text: what it is about is said by then, and longer texts take no longer
_MOST_FEATURES = 20_000  # of each kind, the most frequent


def features(texts: Sequence[str]) -> Any:
    """(texts, features): a sparse matrix of TF-IDF weights of one and two words and of two to four characters."""
    text = need("sklearn.feature_extraction.text", _FOR)
    from scipy.sparse import hstack  # scikit-learn brings it

    read = [one[:_READ] for one in texts]
    kinds = [
        {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+"},
        {"analyzer": "char_wb", "ngram_range": (2, 4)},
    ]
    found = []
    for kind in kinds:
        try:
            found.append(
                text.TfidfVectorizer(sublinear_tf=True, max_features=_MOST_FEATURES, **kind).fit_transform(read)
            )
        except ValueError:  # not one word in all the texts: Emoji have characters all the same
            continue
    if not found:
        raise LlmtuneError(
            "the labelled rows hold no text", fix="keep the column `text`, or read them beside their corpus"
        )
    return hstack(found).tocsr()


def classifier() -> Any:
    """An untrained classifier. Weak regularisation: its probabilities, not its accuracy, must tell sure from unsure."""
    return need("sklearn.linear_model", _FOR).LogisticRegression(C=3, tol=1e-3, max_iter=1000)


def out_of_fold(of_texts: Any, labels: NDArray[np.int64], groups: Sequence[str], seed: int) -> NDArray[np.float64]:
    """(texts, labels): the probability of each label by a classifier that saw neither the text nor any of its group.

    labels: (texts,) numbers from 0, each in at least FOLDS groups. groups: texts of one are never on both sides.
    """
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    folds = need("sklearn.model_selection", _FOR).StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for seen, unseen in folds.split(of_texts, labels, groups):
        model = classifier().fit(of_texts[seen], labels[seen])
        probabilities[np.ix_(unseen, model.classes_)] = model.predict_proba(of_texts[unseen])
    return probabilities
