"""Signals that ask a program to stop, in the main process and in loader processes."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Ctrl-C; what kill, clusters and torchrun send; what a cluster sends when told to warn. Windows lacks the last.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Within, these signals wait; a process that is started within holds them back until it lets them through itself.

    It cannot die of one before it has said what it does about it. Windows has no such signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stopped(KeyboardInterrupt):
    """The program was asked to stop by the signal `number` and did so in order; the message says what is left to do."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 130 if number == signal.SIGINT else 143


class Interrupt:
    """Within `with Interrupt() as interrupt`, a signal to stop only sets `received`, its number; a second Ctrl-C ends at once.

    The loop asks at a place where it can stop cleanly. A KeyboardInterrupt may come up anywhere, in a library's
    clean-up code for one, where it is printed and lost.
    """

    received = 0

    def __enter__(self) -> "Interrupt":
        self.before = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}
        return self

    def note(self, number: int, _frame) -> None:
        self.received = self.received or number
        # Not Python's own: it waits for the call at hand, and one that waits for other processes may never return.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def leave_stopping_to_the_main_process(_worker: int) -> None:
    """A worker that dies of Ctrl-C, or when a cluster tells all processes to end, would end the run with a traceback amid a
    step."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_workers() -> None:
    """At the end of the program: multiprocessing would ask them to end by a signal that they ignore, and wait for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own takes a worker's death for an error
    for worker in multiprocessing.active_children():
        worker.kill()
