"""`FittedArrays`: a fitted model that is a few arrays, numbers and names, and can be kept in a folder.

config.json          the names and numbers, and which class this is
model.safetensors    the arrays
README.md            what it is, for a reader
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from timecell.errors import DataError, unknown_name
from timecell.files import write_whole
from timecell.system import Card

MALFORMED = (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class FittedArrays:
    """Base of the baselines' fits. A subclass is a frozen dataclass whose further fields are arrays or JSON values.

    Attributes:
        card: of the system that was fitted.
        seconds: wall time of the fit.
    """

    card: Card
    seconds: float

    @property
    def report(self) -> Mapping[str, Any]:
        """Learned numbers and seconds."""
        return {"parameters": sum(a.size for a in self._arrays().values()), "seconds": self.seconds}

    def save(self, folder: Path) -> None:
        """Write the three files, each whole or not at all; `load` reads them."""
        from safetensors.numpy import save

        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self._arrays()}
        config = {"model": type(self).__name__, **values, "card": vars(self.card)}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "README.md", _readme(self.card).encode())
        write_whole(folder / "model.safetensors", save({k: np.ascontiguousarray(v) for k, v in self._arrays().items()}))
        write_whole(folder / "config.json", json.dumps(config, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What was saved in the folder; called on the base class, of whatever class it is.

        Raises:
            DataError: a file is missing or damaged.
            InputError: the folder holds a model of another kind.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            config = json.loads((folder / "config.json").read_bytes())
            arrays = load((folder / "model.safetensors").read_bytes())
            kinds = {kind.__name__: kind for kind in _descendants(cls)}
            name = config.pop("model")
            if name not in kinds:
                raise unknown_name(f"model in {folder / 'config.json'}", name, kinds)
            card = Card(**config.pop("card"))
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
            return kinds[name](card=card, **values, **arrays)
        except (OSError, *MALFORMED, SafetensorError) as e:
            raise DataError(
                str(folder),
                found=f"{type(e).__name__}: {e}",
                expected="config.json and model.safetensors from `save`",
                remedy="save the model again",
            ) from e

    def _arrays(self) -> dict[str, np.ndarray]:
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}


def _descendants(cls: type) -> list[type]:
    children: list[type] = cls.__subclasses__()
    return [cls, *(kind for child in children for kind in _descendants(child))]


def _readme(card: Card) -> str:
    return (
        f"# {card.title}\n\n{card.summary}\n\n`config.json` holds names and settings, `model.safetensors` the arrays."
        f" Load both with `timecell.tasks.FittedArrays.load(folder)`.\n"
    )
