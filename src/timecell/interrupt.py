"""Stopping politely: Ctrl-C and SIGTERM are noted, so that what is running can finish, and take effect afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def noted() -> Iterator[list[int]]:
    """Inside, the first signal is put into the list that this gives; on leaving, it does what it always does.

    A second one acts at once. A program that handles these signals itself, and threads other than the main one, are
    left alone.

    Example:
        >>> with noted() as caught:
        ...     "stop soon" if caught else "go on"
        'go on'
    """
    defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    caught: list[int] = []
    taken: list[signal.Signals] = []

    def let_through() -> None:
        for number in taken:
            signal.signal(number, defaults[number])

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        let_through()

    if threading.current_thread() is threading.main_thread():
        taken = [number for number, handler in defaults.items() if signal.getsignal(number) == handler]
        for number in taken:
            signal.signal(number, note)
    try:
        yield caught
    finally:
        let_through()
    if caught:
        signal.raise_signal(caught[0])
