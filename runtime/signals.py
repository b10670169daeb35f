"""Signals that ask a program to stop, in the main process and in loader processes."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# SIGINT: Ctrl-C. SIGTERM: sent by kill, clusters and torchrun. SIGUSR1: a cluster's warning before time is up; not on Windows.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Block these signals within the context; a process started there keeps them blocked until it unblocks them itself.

    So a signal cannot end it before it has set its handlers. Windows cannot block signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class Stopped(KeyboardInterrupt):
    """The program has stopped cleanly after the signal `number`; the message explains how to resume."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 130 if number == signal.SIGINT else 143


class Interrupt:
    """A context in which a stop signal only sets `received` to its number; a second Ctrl-C ends the program at once.

    The training loop checks `received` where it can stop cleanly. A KeyboardInterrupt, in contrast, may be raised anywhere, for
    example in a library's cleanup code, where it would be printed and lost.
    """

    received = 0

    def __enter__(self) -> "Interrupt":
        self.previous_handlers = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}
        return self

    def note(self, number: int, _frame) -> None:
        """Handle a signal: keep the number of the first one."""
        self.received = self.received or number
        # Python's own handler waits for the current call, and a call that waits for other processes may never return.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)


def leave_stopping_to_the_main_process(_worker: int) -> None:
    """Ignore stop signals in this loader process, which would otherwise end the run with a traceback in the middle of a step."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_workers() -> None:
    """Kill the loader processes at the end of the program. They ignore SIGTERM, so multiprocessing would wait forever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own handler treats the death of a worker as an error
    for worker in multiprocessing.active_children():
        worker.kill()
