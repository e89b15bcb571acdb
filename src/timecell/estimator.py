"""scikit-learn estimators over any system: `TimecellClassifier`, `TimecellRegressor`.

    search = GridSearchCV(TimecellClassifier(system), {"system__hidden": [32, 64], "run__updates": [200, 400]})

The parameters are the objects that timecell itself uses (a system, a task, a run); each field of theirs is a nested
parameter, ``system__hidden``, so that searches and pipelines reach it. Time is the second axis: X is [n, T, C], or
[n, T] for a single channel. So in an ordinary table of scikit-learn each column is a step of time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from timecell.data.containers import Data, Schema, Sequences, Series, Windows
from timecell.errors import InputError, unknown_name
from timecell.system import Run, Scores, System, Task
from timecell.tasks import Classify, Forecast, Forecasted
from timecell.tasks.truth import future, windowed


class _Estimator(BaseEstimator):
    """What both have in common: nested parameters, samples that validate, a fitted system."""

    system: System
    run: Run | None
    validation_fraction: float

    def _nested(self) -> dict[str, Any]:
        """The parameters whose fields are parameters too, with the object that None stands for."""
        return {"system": self.system, "run": Run() if self.run is None else self.run}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; with `deep`, also the fields of the system, the task and the run, e.g. "system__hidden"."""
        params: dict[str, Any] = super().get_params(deep=False)
        for name, thing in self._nested().items() if deep else ():
            if is_dataclass(thing):
                params |= {f"{name}__{field.name}": getattr(thing, field.name) for field in fields(thing)}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name, whole objects first and then their fields.

        Raises:
            InputError: there is no such parameter.
        """
        for key in sorted(params, key=lambda key: "__" in key):
            if key not in (known := self.get_params()):
                raise unknown_name(f"parameter of {type(self).__name__}", key, known)
            name, _, field = key.partition("__")
            value = replace(self._nested()[name], **{field: params[key]}) if field else params[key]
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _fit_system(self, train: Any, valid: Any, task: Task) -> None:
        self.fitted_ = self.system.fit(train, valid, task, self._nested()["run"])

    def _draw(self, among: Int[np.ndarray, "n"]) -> Int[np.ndarray, "v"]:
        """Which of these samples validate: the share of them that was asked for, at least one, never all."""
        if not 0 < self.validation_fraction < 1:
            raise InputError(
                "validation_fraction", found=self.validation_fraction, expected="a share between 0 and 1",
                remedy="try 0.15",
            )  # fmt: skip
        number = min(max(1, round(self.validation_fraction * len(among))), len(among) - 1)
        return np.random.default_rng(self._nested()["run"].seed).permutation(among)[:number]


class TimecellClassifier(ClassifierMixin, _Estimator):
    """Any system that classifies, as a scikit-learn classifier.

    Args:
        system: what is fitted: a network, a baseline, one of your own.
        task: readout, label smoothing, ...; None = ``Classify()``.
        run: seed, updates, device; None = ``Run()``. Equal runs give equal results.
        validation_fraction: share of each class that is held back to choose the best weights on.

    Attributes:
        classes_: [K] the labels, sorted.
        n_features_in_: steps of time T.
        fitted_: the fitted system, with its report.

    Example:
        >>> from sklearn.model_selection import cross_val_score
        >>> from timecell.tasks.classifiers import SummaryLogistic
        >>> t, rng = np.arange(30), np.random.default_rng(0)
        >>> X = np.stack([np.sin(t * (0.2 + 0.1 * k)) + 0.1 * rng.standard_normal(30) for k in [0, 1] * 20])
        >>> model = TimecellClassifier(SummaryLogistic(), run=Run(updates=50))
        >>> cross_val_score(model, X, ["slow", "fast"] * 20, cv=2).tolist()
        [1.0, 1.0]
        >>> model.set_params(system__C=0.1).get_params()["system"]
        SummaryLogistic(C=0.1)
    """

    def __init__(
        self, system: System, *, task: Classify | None = None, run: Run | None = None, validation_fraction: float = 0.15
    ) -> None:
        self.system, self.task, self.run, self.validation_fraction = system, task, run, validation_fraction

    def _nested(self) -> dict[str, Any]:
        return super()._nested() | {"task": Classify() if self.task is None else self.task}

    def fit(self, X: Float[np.ndarray, "n T C"] | Float[np.ndarray, "n T"], y: Shaped[np.ndarray, "n"]) -> Self:
        """Learn from sequences and their labels.

        Raises:
            InputError: fewer than two classes, a class of one sample only, or what the system raises.
            ValueError: what scikit-learn raises: shapes that do not fit, missing values, sparse matrices.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("y", found=f"one class, {y[0]}", expected="two or more", remedy="bring samples of others")
        members = [np.flatnonzero(index == k) for k in range(len(self.classes_))]
        for name, of_class in zip(self.classes_, members):
            if len(of_class) < 2:
                raise InputError(
                    "y", found=f"one sample of class {name}", expected="two or more, of which one validates",
                    remedy="bring more, or leave the class out",
                )  # fmt: skip
        held = np.isin(np.arange(len(y)), np.concatenate([self._draw(of_class) for of_class in members]))
        data = Sequences.of(_in_time(X), index, classes=tuple(str(name) for name in self.classes_))
        train, valid = (data.select(np.flatnonzero(part)) for part in (~held, held))
        self._fit_system(train, valid, self._nested()["task"])
        return self

    def predict_proba(self, X: Float[np.ndarray, "n T C"] | Float[np.ndarray, "n T"]) -> Float[np.ndarray, "n K"]:
        """Probability of each class, in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        answer: Float[np.ndarray, "n K"] = self.fitted_.predict(Sequences.of(_in_time(X))).probabilities
        return answer

    def predict(self, X: Float[np.ndarray, "n T C"] | Float[np.ndarray, "n T"]) -> Shaped[np.ndarray, "n"]:
        """The most probable label of each sample."""
        best: Shaped[np.ndarray, "n"] = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


@dataclass(frozen=True)
class Regression(Forecast):
    """A forecast of values that have no past: their errors are not compared with a naive forecast's."""

    def score(self, prediction: Forecasted, data: Data) -> Scores:
        """The mean absolute error ranks; the items are each sample's part of it."""
        error = np.abs(prediction.values - future(windowed(data))).mean(axis=(1, 2))
        return Scores({"mae": float(error.mean())}, "mae", False, error)


class TimecellRegressor(RegressorMixin, _Estimator):
    """Any system that forecasts, as a scikit-learn regressor: numbers that are read from a window of the past.

    To the system, each target is a channel whose past nobody has seen and whose next value is asked for. If the
    targets are the future of channels in X, rather forecast the series itself: ``tc.fit(..., task=Forecast(...))``
    knows that they continue.

    Args:
        system: what is fitted.
        error: what is minimised, "absolute" or "huber" (quadratic within one standard deviation of the target).
        run: seed, updates, device; None = ``Run()``. Equal runs give equal results.
        validation_fraction: share of the samples that is held back to choose the best weights on.

    Attributes:
        n_features_in_: steps of time T.
        fitted_: the fitted system, with its report.

    Example:
        >>> from timecell.tasks.forecasters import RidgeLags
        >>> X = np.random.default_rng(0).standard_normal((100, 8))
        >>> model = TimecellRegressor(RidgeLags()).fit(X, 3 * X[:, 2] + 1)
        >>> model.predict(np.eye(8)).round(2).tolist()
        [1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, system: System, *, error: str = "huber", run: Run | None = None, validation_fraction: float = 0.15
    ) -> None:
        self.system, self.error, self.run, self.validation_fraction = system, error, run, validation_fraction

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: Float[np.ndarray, "n T C"] | Float[np.ndarray, "n T"],
        y: Float[np.ndarray, "n K"] | Float[np.ndarray, "n"],
    ) -> Self:
        """Learn from windows and what belongs to them.

        Raises:
            InputError: a single sample, or what the system raises.
            ValueError: what scikit-learn raises: shapes that do not fit, missing values, sparse matrices.
        """
        X, y = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True)
        if len(X) < 2:
            raise InputError("X", found="1 sample", expected="two or more, of which one validates", remedy="bring more")
        self._single = y.ndim == 1
        targets = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        held = np.isin(np.arange(len(y)), self._draw(np.arange(len(y))))
        names = tuple(f"y{k}" for k in range(targets.shape[1]))
        task = Regression(history=X.shape[1], horizon=1, targets=names, error=self.error)  # type: ignore[arg-type]
        self._fit_system(_windows(X[~held], targets[~held]), _windows(X[held], targets[held]), task)
        self.n_outputs_ = targets.shape[1]
        return self

    def predict(
        self, X: Float[np.ndarray, "n T C"] | Float[np.ndarray, "n T"]
    ) -> Float[np.ndarray, "n K"] | Float[np.ndarray, "n"]:
        """The targets of each window, in the shape that y had."""
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        unknown = np.full((len(X), self.n_outputs_), np.nan)
        values: Float[np.ndarray, "n K"] = self.fitted_.predict(_windows(X, unknown)).values[:, 0]
        return values[:, 0] if self._single else values


def _in_time(X: np.ndarray) -> Float[np.ndarray, "n T C"]:
    """One channel where there is no axis of channels.

    Raises:
        InputError: there are more than three axes.
    """
    if X.ndim > 3:
        raise InputError("X", found=f"shape {X.shape}", expected="[n, T] or [n, T, C]", remedy="flatten the channels")
    return X if X.ndim == 3 else X[:, :, None]


def _windows(X: np.ndarray, y: Float[np.ndarray, "n K"]) -> Windows:
    """Samples end to end as a series: T steps in which the targets are unknown, then one in which only they are known."""
    inputs = _in_time(X)
    n, T, C = inputs.shape
    K = y.shape[1]
    values = np.full((n, T + 1, K + C), np.nan)
    values[:, :T, K:], values[:, T, :K] = inputs, y
    channels = (*(f"y{k}" for k in range(K)), *(f"x{c}" for c in range(C)))
    schema = Schema("series", channels, lengths=(n * (T + 1), n * (T + 1)))
    series = Series(values.reshape(n * (T + 1), K + C), schema)
    return Windows(series, T, 1, np.arange(n) * (T + 1), tuple(range(K)))
