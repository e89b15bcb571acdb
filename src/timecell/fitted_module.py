"""`FittedModule`: a trained net with all that is needed to use it again, and the folder that keeps it.

config.json          the system, the task, what the training data were, how training went: every field but the net
model.safetensors    the weights
README.md            what it is, for a reader

What a net answers differs from one kind of data to the next and is written in the subclasses: `FittedNetwork`,
`FittedPointProcess`, `FittedEdges`. (`tasks.fitted.FittedArrays` is the same for fits that are a few arrays.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from timecell._version import __version__
from timecell.checkpoint import seeded
from timecell.config import class_name, from_dict, to_dict
from timecell.data.containers import Schema
from timecell.errors import DataError, TimecellError
from timecell.pretrained import read_folder, write_folder


class FittedModule:
    """Base of what the systems that are nets fit. A subclass is a frozen dataclass with these fields and its own.

    It adds its own fields to `config` and `parts`, and says with `untrained` how its net is built.

    Attributes:
        system: the hyperparameters.
        schema: of the training data.
        task: what was asked.
        network: the net, in eval mode.
        report: how the training went.
    """

    system: Any
    schema: Schema
    task: Any
    network: Any
    report: Mapping[str, Any]

    weights: ClassVar[str] = ""
    """How the names of the weights begin in the file."""

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and README.md, each whole or not at all; `load` reads them."""
        write_folder(Path(folder), {"timecell": __version__, **self.config()}, self.tensors(), self.card_text())

    @classmethod
    def load(cls, folder: Path, classes: Iterable[type] = ()) -> Self:
        """What was saved in a folder.

        Args:
            folder: with config.json and model.safetensors.
            classes: systems or tasks from outside timecell that it may name.

        Raises:
            DataError: a file is missing or damaged, or the two do not belong together.
            InputError: the folder names a class that is neither timecell's nor one of `classes`.
        """
        folder = Path(folder)
        config, tensors = read_folder(folder)
        place = folder / "config.json"
        try:
            parts = cls.parts(config, tensors, classes)
            with seeded(0):
                net = cls.untrained(parts)
            place = folder / "model.safetensors"
            state = {name: t for name, t in tensors.items() if name.startswith(cls.weights)}
            net.load_state_dict({name.removeprefix(cls.weights): t for name, t in state.items()})
        except TimecellError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
            raise DataError(
                str(place), found=f"{type(e).__name__}: {e}", expected="the file as `save` wrote it",
                remedy="save the model again",
            ) from e  # fmt: skip
        return cls(**parts, network=net.eval())  # type: ignore[call-arg]  # a subclass is a dataclass

    def config(self) -> dict[str, Any]:
        """The fields that are no tensors, as JSON values."""
        return {name: to_dict(getattr(self, name)) for name in ("system", "schema", "task", "report")}

    def tensors(self) -> dict[str, Tensor]:
        """The weights."""
        return {f"{self.weights}{name}": t for name, t in self.network.state_dict().items()}

    @classmethod
    def parts(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Iterable[type]) -> dict[str, Any]:
        """The fields by name, all but the net, from what `config` and `tensors` have written."""
        named = {name: from_dict(config[name], classes) for name in ("system", "schema", "task")}
        return {**named, "report": config["report"]}

    @classmethod
    def untrained(cls, parts: Mapping[str, Any]) -> nn.Module:
        """The net that these fields go with, its weights still those of a new one."""
        raise NotImplementedError(f"{cls.__name__}.untrained")

    def note(self) -> str:
        """What else a reader of the card should know."""
        return ""

    def card_text(self) -> str:
        """The README of the folder."""
        card, best = self.system.card, self.report.get("best")
        settings = {k: v for k, v in to_dict(self.system).items() if k != "class"}
        lines = [
            f"# {card.title}", card.summary, f"Paper: {card.paper}" if card.paper else "",
            f"Task: {self.task.name}. {self.report.get('parameters')} trainable parameters, "
            f"{self.report.get('updates')} updates.",
            f"On validation data: {best['metric']} {best['valid_score']:.4g} (chosen on them, so it flatters)." if best else "",
            self.note(), f"Settings: `{json.dumps(settings)}`",
            f"Load with `{class_name(type(self))}.load(folder)`.",
        ]  # fmt: skip
        return "\n\n".join(line for line in lines if line) + "\n"
