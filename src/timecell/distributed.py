"""Training in several processes: each computes its part of every batch, and all of them make the same update.

    gradient = sum over processes of (their share of the samples) x (the gradient of their mean loss)

which is the gradient of the whole batch, however unequal the parts are. Gradients are added up once an update, when the
credit rule is done: so any rule will do, those that visit slices of time and those that fill ``p.grad`` without
autograd. (The hooks of torch's DistributedDataParallel add once a slice, and do not see the latter.) Batch norms take
their statistics over the whole batch (`World.synchronised`).

`launch` starts the processes for one call and ends them with it, so ``fit(..., run=Run(devices=2))`` is an ordinary
call, in a script, a notebook and the command line alike. In a program that ``torchrun`` has started as several
processes, `fit` works together with the others without another line.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from timecell.data.containers import Batch
from timecell.errors import InputError, TimecellError, unknown_name
from timecell.interrupt import noted
from timecell.system import Run

T = TypeVar("T")
BatchNorm = nn.modules.batchnorm._BatchNorm


def never() -> bool:
    """Nobody says stop."""
    return False


class World:
    """The processes of one fit, as one of them sees them. Alone, everything is what it is.

    Attributes:
        size: how many there are.
        rank: which of them this is; 0 is the one that writes and shows.
        local_rank: the same, among those on this machine.
        share: of the samples of the present batch.
        stop: whether the process that launched them says stop.

    Example:
        >>> alone = World()
        >>> alone.size, alone.any(False, True), alone.gather("x")
        (1, [False, True], ['x'])
    """

    def __init__(self, stop: Callable[[], bool] = never) -> None:
        together = dist.is_initialized()
        self.size = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank)) if together else 0
        self.share = 1.0
        self.stop = stop

    def part(self, batch: Batch) -> Batch:
        """The samples of a batch that are this process's; padded like the whole, so that all visit the same slices.

        Example:
            >>> len(World().part(Batch(torch.zeros(5, 3, 1))))
            5
        """
        rows = torch.from_numpy(np.array_split(np.arange(len(batch)), self.size)[self.rank])
        self.share = len(rows) / len(batch)
        return (
            batch if self.size == 1 else replace(batch, **{k: v[rows] for k, v in vars(batch).items() if v is not None})
        )

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make every ``p.grad`` the gradient of the whole batch; None stays only where no process has one."""
        if self.size == 1:
            return
        each = list(parameters)
        present = self.any(*(p.grad is not None for p in each))
        for p in [p for p, anywhere in zip(each, present) if anywhere]:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad * self.share
            dist.all_reduce(p.grad)

    def mean(self, value: float) -> float:
        """The mean over the whole batch of a value that is a mean over this process's part."""
        total = torch.tensor(value * self.share, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(total)
        return total.item()

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether some process has raised it: so that all of them do the same."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised]

    def gather(self, value: T) -> list[T]:
        """What each process has here, in their order."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def make_equal(self, net: nn.Module) -> None:
        """Give every process the parameters and buffers of the first."""
        if self.size > 1:
            first = [{k: v.cpu() for k, v in net.state_dict().items()}]
            dist.broadcast_object_list(first)
            net.load_state_dict(first[0])

    @contextmanager
    def synchronised(self, net: nn.Module) -> Iterator[None]:
        """Inside, batch norms in training take mean and variance over the whole batch, not over a part of it.

        torch's own SyncBatchNorm does so on GPUs only.

        Raises:
            InputError: a module keeps statistics of batches in a way of its own.
        """
        changed: list[Any] = []
        try:
            for path, module in net.named_modules() if self.size > 1 else ():
                if not module.training:  # frozen: it has no statistics of batches
                    continue
                if isinstance(module, BatchNorm) and type(module).forward in KNOWN_FORWARDS:
                    module.forward = partial(_batch_norm, module, net, self)  # type: ignore[method-assign]
                    changed.append(module)
                elif getattr(module, "running_mean", None) is not None:
                    raise InputError(
                        "run.devices", found=f"{path or 'net'} ({type(module).__name__}), which keeps statistics of batches",
                        expected="nn.BatchNorm1d, 2d or 3d, whose statistics can be taken over all processes",
                        remedy="use one of these, or a norm within a sample such as nn.LayerNorm; or train on one device",
                    )  # fmt: skip
            yield
        finally:
            for module in changed:
                del module.forward


# --- batch norm over all processes ------------------------------------------------------------------------------------

KNOWN_FORWARDS = (BatchNorm.forward, nn.SyncBatchNorm.forward)


class _Sum(torch.autograd.Function):
    """A tensor added up over all processes; its gradient comes from all of them, each by its share of the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.share = world.share
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0] * ctx.share
        dist.all_reduce(total)
        return total / ctx.share, None


def _batch_norm(module: Any, net: nn.Module, world: World, x: Tensor) -> Tensor:
    """``module.forward(x)`` with the statistics of all processes' x [B, C, ...], as long as the net is in training.

    All processes come here at the same time, those whose samples have ended too. Where all of them together have too few
    values for a variance, the running statistics serve and stay as they are, as they do in one process.
    """
    if not net.training:
        return BatchNorm.forward(module, x)
    axes, channels = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    count = _Sum.apply(x.new_tensor(x.numel() / x.shape[1]), world)
    if count < 2 and module.running_mean is not None:
        return F.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps)
    mean = _Sum.apply(x.sum(axes), world) / count
    centred = x - mean.view(channels)
    variance = _Sum.apply(centred.square().sum(axes), world) / count
    if module.running_mean is not None:
        module.num_batches_tracked.add_(1)
        rate = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
        module.running_mean.lerp_(mean.detach().to(module.running_mean.dtype), rate)
        unbiased = variance.detach() * count / (count - 1)
        module.running_var.lerp_(unbiased.to(module.running_var.dtype), rate)
    y = centred * torch.rsqrt(variance + module.eps).view(channels)
    return y if module.weight is None else y * module.weight.view(channels) + module.bias.view(channels)


# --- processes --------------------------------------------------------------------------------------------------------


def join() -> bool:
    """Whether this process is one of several; one that torchrun has started joins the others here, until it ends."""
    if dist.is_torchelastic_launched() and not dist.is_initialized() and int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group(_backend())
        atexit.register(_leave)
    return dist.is_initialized()


def _leave() -> None:
    """Leave the others: threads of theirs that still run while a process is taken down may abort it."""
    if dist.is_initialized():
        dist.destroy_process_group()


def require_devices(run: Run, smallest: int) -> None:
    """Refuse devices that there are not, or more than the smallest batch has samples for.

    Raises:
        InputError: naming the argument.
    """
    size = World().size if join() else run.devices
    if run.device not in (known := ("auto", "cpu", "cuda")):
        raise unknown_name("run.device", run.device, known)
    gpus = gpus_for(run)
    if run.device == "cuda" and not gpus:
        raise InputError("run.device", found="'cuda', but torch sees no GPU", expected="a GPU", remedy='pass "auto"')
    if run.devices not in (1, size):
        raise InputError(
            "run.devices", found=run.devices, expected=f"{size}, as many processes as torchrun has started",
            remedy="leave it out under torchrun",
        )  # fmt: skip
    if size > smallest:
        raise InputError(
            "run.devices", found=size, expected=f"at most {smallest}, the samples of the smallest batch",
            remedy="take fewer devices, or larger batches",
        )  # fmt: skip
    if gpus and run.devices > gpus:
        raise InputError(
            "run.devices", found=f"{run.devices} for {gpus} GPU{'s' * (gpus > 1)}", expected="a GPU for each",
            remedy=f'take {gpus}, or device="cpu"',
        )  # fmt: skip


def gpus_for(run: Run) -> int:
    """GPUs of this machine that a run may use."""
    return torch.cuda.device_count() if run.device != "cpu" else 0


def launch(work: Callable[[Callable[[], bool]], T], size: int) -> T:
    """Call ``work(stop)`` in so many new processes that are connected, and return what the first one returns.

    They are new interpreters, which are sent what `work` holds: so a script needs no ``if __name__ == "__main__"``, and
    what is defined in a notebook goes along. Ctrl-C and a polite kill reach them as ``stop()``; whatever ends this
    process ends them.

    Raises:
        InputError: `work` holds something that cannot be sent, such as an open file; and what `work` raises.
        TimecellError: a process died.
    """
    from pickle import PicklingError

    from joblib.externals.loky import FIRST_EXCEPTION, BrokenProcessPool, ProcessPoolExecutor, wait

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = _Place(size, store.port, max(1, torch.get_num_threads() // size), os.getpid())
    pool = ProcessPoolExecutor(size)
    try:
        with noted() as caught:
            futures = [pool.submit(_process, work, rank, place) for rank in range(size)]
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_EXCEPTION)
                if caught:
                    store.set(STOP, "")
                elif failed := [e for e in (f.exception() for f in done) if e is not None]:
                    raise failed[0]
        answer = futures[0].result()
        pool.shutdown()
        return answer
    except PicklingError as e:
        raise InputError(
            "run.devices", found=f"something that other processes cannot be sent ({e.__cause__ or e})",
            expected="a net, data, a task, a credit rule and a recipe that hold no open file, lock or generator",
            remedy="leave that out, or start your script with torchrun",
        ) from None  # fmt: skip
    except BrokenProcessPool as e:
        raise TimecellError(
            "run.devices", found=f"a training process that died ({e})", expected=f"{size} that live to the end",
            remedy="look for its last words above; if memory was short, take smaller batches; resume=True goes on",
        ) from None  # fmt: skip
    finally:
        pool.shutdown(kill_workers=True)


STOP = "stop"


@dataclass(frozen=True)
class _Place:
    """Where a new process finds the others, and what it may use."""

    size: int
    port: int
    threads: int
    launcher: int


def _process(work: Callable[[Callable[[], bool]], T], rank: int, place: _Place) -> T:
    """What a new process does."""
    threading.Thread(target=_end_with, args=(place.launcher,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the launcher says when to stop
    torch.set_num_threads(place.threads)
    store = dist.TCPStore("127.0.0.1", place.port, is_master=False)
    dist.init_process_group(_backend(), store=store, rank=rank, world_size=place.size)
    try:
        return work(lambda: store.check([STOP]))
    finally:
        dist.destroy_process_group()


def _end_with(launcher: int) -> None:
    """No process outlives the one that launched it, however that ended."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
