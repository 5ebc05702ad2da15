"""The learners of `zoo probe`, and how their one setting is chosen: never by the test images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Values of C, the inverse strength of logistic regression's L2 penalty."""
NEIGHBOURS = (1, 3, 5, 10, 20)
FOLDS = 5
MAX_ITERATIONS = 2000

Rows = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Learner = Callable[[Rows, Labels, Rows, Sequence[float]], tuple[Labels, list[str]]]


@dataclass(frozen=True)
class Part:
    """The images of a split.

    Attributes:
        features: float64, (N, D).
        labels: int64, (N,).
    """

    features: Rows
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "Part") -> "Part":
        """The images of both, one after the other."""
        return Part(np.concatenate([self.features, other.features]), np.concatenate([self.labels, other.labels]))

    def take(self, rows: Labels) -> "Part":
        """The images in these rows."""
        return Part(self.features[rows], self.labels[rows])

    @property
    def folds(self) -> int:
        """Into how many parts it can be cut so that every class is in each; `FOLDS` at most."""
        return min(FOLDS, int(np.unique(self.labels, return_counts=True)[1].min()))


@dataclass(frozen=True)
class Result:
    """What a learner reached.

    Attributes:
        learner: Its name.
        setting: The value that was chosen, by the name of what it sets.
        val_accuracy: Share of correct images among those that the setting was chosen on.
        test_accuracy: Share of correct test images; None if there are none.
        test_images: How many there are.
    """

    learner: str
    setting: dict[str, float]
    val_accuracy: float
    test_accuracy: float | None
    test_images: int


def probe(name: str, parts: dict[str, Part], remarks: list[str]) -> Result:
    """Choose a learner's setting, learn again from all images but the test's, classify those.

    The setting is the one with the most correct images on the validation split or, if there is none, in a stratified
    cross-validation of the training split; of equals it is the first.

    Args:
        name: A key of `LEARNERS`.
        parts: train, and if there are any, val and test.
        remarks: Takes what the user should know.
    """
    learner, key, settings = LEARNERS[name]
    pairs = _pairs(parts)
    if key == "k":
        settings = tuple(k for k in settings if k <= min(len(learnt) for learnt, _ in pairs))
    correct = np.zeros(len(settings), dtype=np.int64)
    for learnt, held_out in pairs:
        predicted, said = learner(learnt.features, learnt.labels, held_out.features, settings)
        correct += (predicted == held_out.labels).sum(axis=1)
        remarks += said
    best = int(correct.argmax())
    chosen, share = settings[best], correct[best] / sum(len(held_out) for _, held_out in pairs)
    if "test" not in parts:
        return Result(name, {key: chosen}, float(share), None, 0)
    known, test = parts["train"] + parts["val"] if "val" in parts else parts["train"], parts["test"]
    predicted, said = learner(known.features, known.labels, test.features, (chosen,))
    remarks += said
    return Result(name, {key: chosen}, float(share), float((predicted[0] == test.labels).mean()), len(test))


def _pairs(parts: dict[str, Part]) -> list[tuple[Part, Part]]:
    """What is learnt from, and what the setting is chosen on."""
    train = parts["train"]
    if "val" in parts:
        return [(train, parts["val"])]
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(train.folds, shuffle=True, random_state=0).split(train.features, train.labels)
    return [(train.take(rest), train.take(held_out)) for rest, held_out in folds]


def logistic(rows: Rows, labels: Labels, others: Rows, settings: Sequence[float]) -> tuple[Labels, list[str]]:
    """Logistic regression on standardised features with an L2 penalty.

    Args:
        rows: Features to learn from, (N, D).
        labels: Their classes, (N,).
        others: Features to classify, (M, D).
        settings: Values of C, in rising order.

    Returns:
        Classes of the others for each setting, (settings, M), and remarks.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    rows, others = scaler.transform(rows), scaler.transform(others)
    # Each begins where the one with the stronger penalty ended: the same minimum, sooner.
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    predicted, remarks = [], []
    for setting in settings:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=setting).fit(rows, labels)
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            remarks.append(
                f"logistic regression with C = {setting:g} has not converged in {model.n_iter_.max():,} steps"
            )
        predicted.append(model.predict(others))
    return np.stack(predicted), remarks


def nearest_neighbours(rows: Rows, labels: Labels, others: Rows, settings: Sequence[float]) -> tuple[Labels, list[str]]:
    """The class that most of the k nearest neighbours by cosine distance have; of equals the lowest number.

    Args:
        rows: Features to learn from, (N, D).
        labels: Their classes, (N,).
        others: Features to classify, (M, D).
        settings: Values of k, in rising order.

    Returns:
        Classes of the others for each setting, (settings, M), and no remarks.
    """
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=int(settings[-1]), metric="cosine", algorithm="brute").fit(rows)
    order = model.kneighbors(others, return_distance=False)  # (M, k), the nearest first
    classes, numbers = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(others), len(classes)), dtype=np.int16)
    predicted = []
    for place in range(order.shape[1]):
        votes[np.arange(len(others)), numbers[order[:, place]]] += 1
        if place + 1 in settings:
            predicted.append(classes[votes.argmax(axis=1)])
    return np.stack(predicted), []


LEARNERS: dict[str, tuple[Learner, str, tuple[float, ...]]] = {
    "logistic": (logistic, "C", STRENGTHS),
    "knn": (nearest_neighbours, "k", NEIGHBOURS),
}
