"""Which plan serves a step: made at its first use at a precision on a kind of device, and known by a key from then on."""

from __future__ import annotations

import threading
from typing import Any

import torch

from timecell.fuse.gpu import GPUPlan
from timecell.fuse.plan import Plan
from timecell.fuse.row_plan import RowPlan
from timecell.fuse.trace import Step

_lock = threading.RLock()
_plans: dict[str, Plan] = {}
_keys: dict[tuple[Any, torch.dtype, str], str] = {}


@torch.compiler.assume_constant_result
def plan_key(step: Step, dtype: torch.dtype, device: str = "cpu") -> str:
    """The name under which the raw operators find this step's plan; traces and emits at the first call.

    Args:
        step: the instant.
        dtype: float32 or float64.
        device: "cpu" or "cuda".
    """
    with _lock:
        known = _keys.get((step.key, dtype, device))
        if known is None:
            known = f"{step.name}-{str(dtype)[6:]}-{device}-{len(_plans)}"
            _plans[known] = _kind(step, device)(step, dtype, known)
            _keys[step.key, dtype, device] = known
    return known


def _kind(step: Step, device: str) -> type[Plan]:
    if device != "cpu":
        return GPUPlan
    return Plan if step.shapes is None else RowPlan


def plan(key: str) -> Plan:
    """The plan of a key."""
    return _plans[key]
