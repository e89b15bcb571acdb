"""The process of one case: it gets ready, and then answers each line of its input with a line of JSON.

    python -m benchmarks.worker MODULE FIGURE CASE THREADS

"time" is answered by {"wall": seconds, "cpu": seconds} of one pass, a mean over as many passes as fill a tenth of a second;
CPU time counts all threads and the processes that a pass has started. "memory" is answered by {"memory": MB}: the highest
resident size during a pass, less the size just before it, after freed pages are given back; None where /proc does not
tell. The first answer, without a request, is {"result": ...} of the first pass, and {"failed": reason} where there is none.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from benchmarks.side_by_side import Case, Pass

LONG_ENOUGH = 0.1  # seconds of passes in one timing


def limit(threads: int) -> None:
    """So many cores and threads for this process; before anything heavy is imported, because libraries look only once."""
    cores = sorted(os.sched_getaffinity(0))
    first = os.getpid() % len(cores)  # workers that start at the same time spread over the cores
    os.sched_setaffinity(0, (cores[first:] + cores[:first])[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"


def clock() -> tuple[float, float]:
    """Seconds: wall, and CPU of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def timed(one_pass: Pass, repeats: int) -> dict[str, float]:
    """The mean of so many passes, after one that warms the caches again."""
    one_pass()
    wall, cpu = clock()
    for _ in range(repeats):
        one_pass()
    wall_end, cpu_end = clock()
    return {"wall": (wall_end - wall) / repeats, "cpu": (cpu_end - cpu) / repeats}


def resident(what: str) -> float:
    """A size of this process in MB: "VmRSS" now, "VmHWM" at its highest since that was reset."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(what))


def peak(one_pass: Pass) -> float | None:
    """MB that a pass takes at its highest; None where the system does not tell."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        before = resident("VmRSS")
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")
    except (OSError, AttributeError):
        return None
    one_pass()
    return max(0.0, resident("VmHWM") - before)


def summed_up(result: Mapping[str, Any] | None) -> dict[str, float]:
    """The mean absolute value of everything that a pass returned: the same for every order of its axes."""
    import numpy as np

    arrays = {k: np.asarray(getattr(v, "detach", lambda v=v: v)(), dtype=float) for k, v in (result or {}).items()}
    return {name: float(np.abs(array).mean()) for name, array in arrays.items()}


def ready(case: Case) -> tuple[Pass, dict[str, float], int]:
    """The case's pass, what it returns first, and how many passes fill a timing."""
    for package in case.needs:
        importlib.import_module(package)
    one_pass = case.setup()
    result = summed_up(one_pass())
    once = timed(one_pass, 1)["wall"]
    return one_pass, result, max(1, math.ceil(LONG_ENOUGH / max(once, 1e-7)))


def main(module: str, figure: str, case: str, threads: int, requests: IO[str], answers: IO[str]) -> None:
    """Get ready, then answer until the input ends."""

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        limit(threads)
        declared = next(f for f in importlib.import_module(module).FIGURES if f.name == figure)
        one_pass, result, repeats = ready(next(c for c in declared.cases if c.name == case))
        answer(result=result)
        for request in requests:
            if request.strip() == "time":
                answer(**timed(one_pass, repeats))
            else:
                answer(memory=peak(one_pass))
    except Exception as error:  # whatever a peer cannot do is a row of the table
        answer(failed=f"{type(error).__name__}: {error}".splitlines()[0][:200])


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print must not look like an answer
        module, figure, case, threads = sys.argv[1:]
        main(module, figure, case, int(threads), sys.stdin, answers)
