"""What ``timecell train`` leaves beside a model, and how ``predict`` and ``diagnose`` go on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from timecell.cli.reading import everything
from timecell.errors import DataError, InputError, TimecellError

if TYPE_CHECKING:
    from timecell.data import Schema
    from timecell.data.containers import AnyData
    from timecell.system import Fitted

ModelFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
FILE = "asked.json"


@dataclass(frozen=True)
class Asked:
    """How the file of a training was read, and what was asked of it; as JSON beside the model.

    Attributes:
        read: arguments of `timecell.data.load`.
        task: what was asked.
        schema: of the training data.
        test: what the test part scored.
        model: name of the fitted model's class; the usual one stands for folders from before there were others.
        base: the logarithm of each unit's mean count in training, which the answers of a net to the task co-smooth are
            relative to; None in folders from before it was kept, and before targets stood behind the inputs.
    """

    read: Mapping[str, Any]
    task: Any
    schema: Schema
    test: Mapping[str, Any] = field(default_factory=dict)
    model: str = "timecell.network_system.FittedNetwork"
    base: tuple[float, ...] | None = None

    def write(self, folder: Path) -> None:
        """Beside the model."""
        from timecell.config import to_dict
        from timecell.files import write_whole

        write_whole(folder / FILE, json.dumps(to_dict(vars(self)), indent=1).encode())


def read_asked(folder: Path) -> Asked:
    """What ``timecell train`` wrote beside the model.

    Raises:
        DataError: the folder has no such file, or it is damaged.
        InputError: the task is none of timecell's.
    """
    from timecell.config import from_dict

    try:
        return Asked(**from_dict(json.loads((folder / FILE).read_bytes())))
    except (OSError, ValueError, TypeError) as e:
        raise DataError(
            str(folder / FILE), found=getattr(e, "strerror", None) or e, expected="the folder of `timecell train --out`",
            remedy="name that folder, or train again",
        ) from None  # fmt: skip


def load_fitted(folder: Path, model: str, root: Path) -> Fitted:
    """The model in a folder, by the name of its class: a baseline, or what one of the systems under `root` fitted."""
    from timecell.config import find_class
    from timecell.tasks import FittedArrays

    kind = find_class(model, {}, lambda found: hasattr(found, "load"), "fitted model")
    if issubclass(kind, FittedArrays):
        return kind.load(folder)  # type: ignore[return-value]
    fitted: Fitted = kind.load(folder, [type(system) for system in everything(root).values()])
    return fitted


def read_new(file: Path, options: Mapping[str, Any], label: str | None) -> AnyData:
    """A new file, read as the one for training was, with or without the column of labels."""
    from timecell.data import load

    try:
        data: AnyData = load(file, target=label, **options)
        return data
    except TimecellError as e:
        if label is None or not e.place.endswith(", target"):
            raise
        return load(file, **options)


def as_trained(data: Any, schema: Schema, file: Path) -> Any:
    """The data with the channels (of events: the marks) of the training data in their order; edges as they are.

    Raises:
        DataError: the file lacks a channel, has a mark that training did not know, or is of the other kind.
    """
    from timecell.data.containers import with_channels
    from timecell.data.event_sequences import EventSequences

    found = data.schema
    if found.kind == schema.kind == "edges":
        return data
    flags = {f"{name} seen" for name in schema.channels}  # of the task impute, beside each channel
    wanted = [name for name in schema.channels if name not in flags]
    if isinstance(data, EventSequences) and schema.kind == found.kind:
        strange = [mark for mark in found.classes or () if mark not in (schema.classes or ())]
        number = np.array([(schema.classes or ()).index(m) for m in found.classes or () if m not in strange], int)
        missing = strange
    else:
        missing = [name for name in wanted if name not in found.channels]
    if missing or found.kind != schema.kind:
        raise DataError(
            str(file), found=f"{found.kind} with the channels {', '.join(found.channels)}",
            expected=f"{schema.kind} with {', '.join(wanted)}, as in training", remedy="name the columns so",
        )  # fmt: skip
    if isinstance(data, EventSequences):
        named = replace(found, channels=schema.channels, classes=schema.classes)
        return replace(data, marks=number[data.marks], schema=named)
    order = [found.channels.index(name) for name in wanted]
    return with_channels(data, order)


def continued(data: Any, before: Any) -> AnyData:
    """Edges with those that came before them.

    Raises:
        InputError: the data are no edges, or those before do not go with them.
    """
    from timecell.data.temporal_edges import TemporalEdges

    if isinstance(data, TemporalEdges):
        return data.after(before)
    raise InputError(
        "before", found=data.schema.kind, expected="edges: only a stream of edges goes on", remedy="leave --before out"
    )
