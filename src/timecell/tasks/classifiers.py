"""The baselines of `Classify`: the most frequent class, logistic regression on summaries, random convolutions.

All three are one linear map of features of the whole sequence, with a softmax; they differ in the features.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Data, Schema, Sequences
from timecell.errors import InputError
from timecell.system import Card, Run, Task
from timecell.tasks.features import TAPS, RandomKernels, summaries
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.predictions import ClassScores
from timecell.tasks.ridge import Linear, Scaling, ridge_path
from timecell.tasks.truth import labelled, labels, sequences

OPERATIONS = 2e11  # multiply-adds that random convolutions of the training set may cost: some 20 s on one core


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Labelled sequences of at least two classes."""
        if task.name != "classify":
            return f"it classifies, and the task is {task.name}"
        return None if len(schema.classes or ()) > 1 else "there are fewer than two classes"


@dataclass(frozen=True)
class LinearClassifier(FittedArrays):
    """softmax(features @ weight + bias); the base has no features, so its answer is the same for everything.

    Attributes:
        classes: names.
        channels: C of the training data.
        weight: [F, K].
        bias: [K].
    """

    classes: tuple[str, ...]
    channels: int
    weight: Float[np.ndarray, "F K"]
    bias: Float[np.ndarray, "K"]

    def features(self, data: Sequences) -> Float[np.ndarray, "N F"]:
        """What the linear map sees."""
        return np.zeros((len(data), 0))

    def predict(self, data: Data) -> ClassScores:
        """Class probabilities of each sample.

        Raises:
            InputError: the data are no sequences, have a gap, or another number of channels.
        """
        found = sequences(data)
        if found.values.shape[1] != self.channels:
            raise InputError(
                "data",
                found=f"{found.values.shape[1]} channels",
                expected=f"the {self.channels} of the training data",
                remedy="load the same columns as for training",
            )
        return ClassScores(softmax(self.features(found) @ self.weight + self.bias), self.classes)


@dataclass(frozen=True)
class Majority(_Baseline):
    """Every sample gets the class frequencies of the training data, each class counted once more (Laplace 1814).

    Example:
        >>> from timecell.tasks.classify import Classify
        >>> data = Sequences.of(np.zeros((4, 5, 1)), target=[0, 1, 1, 1])
        >>> Majority().fit(data, data, Classify(), Run()).predict(data).probabilities[0].round(3).tolist()
        [0.333, 0.667]
    """

    card = Card("majority", "Majority class", "Answers with the class frequencies of the training data.", "baseline")

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> LinearClassifier:
        """Count."""
        start = time.perf_counter()
        data = labelled(train)
        classes, channels = data.schema.classes or (), data.values.shape[1]
        counts = np.bincount(labels(train), minlength=len(classes)) + 1
        no_features, bias = np.zeros((0, len(classes))), np.log(counts / counts.sum())
        return LinearClassifier(self.card, time.perf_counter() - start, classes, channels, no_features, bias)


@dataclass(frozen=True)
class SummaryClassifier(LinearClassifier):
    """A linear map of `summaries`."""

    def features(self, data: Sequences) -> Float[np.ndarray, "N F"]:
        """Summaries of each channel."""
        return summaries(data)


@dataclass(frozen=True)
class SummaryLogistic(_Baseline):
    """Logistic regression on summaries of each channel; what needs no order in time is found by this.

    Attributes:
        C: inverse strength of the penalty on features scaled to unit variance.

    Example:
        >>> from timecell.tasks.classify import Classify
        >>> data = Sequences.of([np.full((3, 1), v) for v in (0.0, 0.1, 5.0, 5.1)], target=[0, 0, 1, 1])
        >>> SummaryLogistic().fit(data, data, Classify(), Run()).predict(data).predicted.tolist()
        [0, 0, 1, 1]
    """

    C: float = 1.0

    card = Card(
        "summary-logistic",
        "Logistic regression on summaries",
        "Logistic regression on mean, spread, quartiles, ends, slope and counts of each channel.",
        "baseline",
    )

    def space(self) -> Mapping[str, Sequence[Any]]:
        """The penalty."""
        return {"C": (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> SummaryClassifier:
        """Scale, then regress.

        Raises:
            InputError: all training samples are of one class.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        start = time.perf_counter()
        data, y = labelled(train), labels(train)
        if (y == y[0]).all():
            raise InputError(
                "train",
                found="samples of one class only",
                expected="at least two",
                remedy="bring more data, or split anew",
            )
        x = summaries(data)
        scaling = Scaling.of(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes: more steps only raise the weights
            model = LogisticRegression(C=self.C, max_iter=500).fit(scaling(x), y)
        classes, channels = data.schema.classes or (), data.values.shape[1]
        fitted = _one_column_a_class(model.coef_, model.intercept_, model.classes_, len(classes))
        linear = scaling.undo(fitted)
        return SummaryClassifier(self.card, time.perf_counter() - start, classes, channels, linear.weight, linear.bias)


@dataclass(frozen=True)
class KernelClassifier(LinearClassifier):
    """A linear map of `RandomKernels` features; the further fields are the kernels'."""

    mean: Float[np.ndarray, "C"]
    spread: Float[np.ndarray, "C"]
    kernels: Float[np.ndarray, "M C 9"]
    dilation: Int[np.ndarray, "M"]
    threshold: Float[np.ndarray, "M"]

    def features(self, data: Sequences) -> Float[np.ndarray, "N F"]:
        """Two features a kernel."""
        return RandomKernels(self.mean, self.spread, self.kernels, self.dilation, self.threshold)(data)


@dataclass(frozen=True)
class RandomConvolutions(_Baseline):
    """Random convolutions and a ridge classifier (ROCKET: Dempster, Petitjean, Webb 2020, arXiv:1910.13051).

    The penalty is chosen on the validation data, for the whole path of them costs hardly more than one. The margins
    become probabilities by one factor, chosen there too (temperature scaling, Guo et al. 2017).

    Attributes:
        kernels: at most so many; fewer, but at least 100, where more than 2e11 multiply-adds would be needed.

    Example:
        >>> from timecell.tasks.classify import Classify
        >>> t = np.arange(40)
        >>> waves = [np.sin(w * t + p)[:, None] for w in (0.3, 0.6) for p in range(6)]
        >>> data = Sequences.of(waves, target=[0] * 6 + [1] * 6)
        >>> fitted = RandomConvolutions(kernels=50).fit(data, data, Classify(), Run())
        >>> fitted.predict(data).predicted.tolist()
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """

    kernels: int = 1000

    card = Card(
        "random-convolutions",
        "Random convolutions and ridge",
        "Largest output and share of outputs above a threshold of random dilated kernels, and a ridge classifier.",
        "baseline",
        paper="arXiv:1910.13051",
    )

    def __post_init__(self) -> None:
        if self.kernels < 1:
            raise InputError("kernels", found=self.kernels, expected="at least 1", remedy="try 1000")

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing more to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> KernelClassifier:
        """Draw kernels, then regress the classes (1 or -1) on their features."""
        start = time.perf_counter()
        data, K = labelled(train), len(train.schema.classes or ())
        each = len(data) * int(data.lengths.max()) * data.values.shape[1] * TAPS
        affordable = max(100, int(OPERATIONS / each))
        kernels = RandomKernels.draw(data, min(self.kernels, affordable), np.random.default_rng(run.seed))
        sides = np.where(labels(train)[:, None] == np.arange(K), 1.0, -1.0)
        x, y = kernels(labelled(valid)), labels(valid)
        tempered = [_tempered(linear, x, y) for linear in ridge_path(kernels(data), sides)]
        best = min(tempered, key=lambda linear: log_loss(linear(x), y))
        return KernelClassifier(
            card=self.card,
            seconds=time.perf_counter() - start,
            classes=data.schema.classes or (),
            channels=data.values.shape[1],
            weight=best.weight,
            bias=best.bias,
            mean=kernels.mean,
            spread=kernels.spread,
            kernels=kernels.weight,
            dilation=kernels.dilation,
            threshold=kernels.threshold,
        )


def softmax(scores: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """Rows become probabilities."""
    from scipy.special import softmax

    return softmax(scores, axis=1)


def log_loss(scores: Float[np.ndarray, "N K"], y: Int[np.ndarray, "N"]) -> float:
    """Mean cross-entropy [nats] of softmax(scores)."""
    from scipy.special import log_softmax

    return float(-log_softmax(scores, axis=1)[np.arange(len(y)), y].mean())


def _tempered(linear: Linear, x: Float[np.ndarray, "N F"], y: Int[np.ndarray, "N"]) -> Linear:
    """The same map times the factor, between e^-4 and e^4, with the least log loss on these data."""
    from scipy.optimize import minimize_scalar

    scores = linear(x)
    found = minimize_scalar(lambda k: log_loss(np.exp(k) * scores, y), bounds=(-4, 4), method="bounded")
    factor = np.exp(found.x)
    return Linear(linear.weight * factor, linear.bias * factor)


def _one_column_a_class(coef: np.ndarray, intercept: np.ndarray, present: np.ndarray, K: int) -> Linear:
    """Scikit-learn's coefficients of the classes in the training data as K columns; an absent class is never given."""
    if len(present) == 2:
        coef, intercept = np.stack([-coef[0], coef[0]]) / 2, np.stack([-intercept[0], intercept[0]]) / 2
    weight, bias = np.zeros((coef.shape[1], K)), np.full(K, -np.inf)
    weight[:, present], bias[present] = coef.T, intercept
    return Linear(weight, bias)
