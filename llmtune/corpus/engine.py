"""Where the portions of a corpus are worked on: in this process, in several of this machine, or on a Ray cluster.

Whichever it is, each portion is worked on by itself and results come in the order of the portions, so the corpus is the
same to the byte.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Literal, Protocol, TypeVar

from llmtune.errors import Disturbed
from llmtune.extras import need
from llmtune.heap import return_freed_memory
from llmtune.machine import count_helpers, peak_resident, this_machine
from llmtune.monitor import Monitor

EngineName = Literal["native", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")
# (shared, item, monitor) → result; a function of a module, so that it can go to another process.
Work = Callable[[Shared, Item, Monitor], Result]

_BYTES_A_WORKER = 2_000_000  # of files; for less a process takes longer to start than to work
_TICK = 0.2  # seconds between two looks at whether to stop
_LOCAL_RAY = {"include_dashboard": False, "object_store_memory": 256 << 20}  # texts do not go through it
_PATIENCE = 30  # seconds for tasks to end that are not wanted any more
_AHEAD = 4  # portions a worker that are under way or waiting


class Engine(Protocol):
    """Does work on items."""

    def map(
        self, work: Work[Shared, Item, Result], shared: Shared, items: Sequence[Item], monitor: Monitor
    ) -> Iterator[Result]:
        """The results, in order. shared: is taken to each worker once. Raises what the work raises for the first item
        that fails, Stopped, and Disturbed when a worker is killed."""
        ...


def engine_of(name: EngineName, workers: int | None, size: int) -> Engine:
    """workers: as asked for; None: one a core, fewer for few bytes (native), or what the cluster has (ray). size: bytes
    of the files. Raises MissingExtra."""
    if name == "ray":
        return RayEngine(workers)
    return NativeEngine(workers_for(workers, size))


def workers_for(workers: int | None, size: int) -> int:
    """How many processes of this machine, for so many bytes of files."""
    return workers or min(this_machine().cores, 1 + size // _BYTES_A_WORKER)


class NativeEngine:
    """Processes of this machine; none where there is only one item, or one worker."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(
        self, work: Work[Shared, Item, Result], shared: Shared, items: Sequence[Item], monitor: Monitor
    ) -> Iterator[Result]:
        workers = min(self._workers, len(items))
        if workers <= 1:
            for item in items:
                yield work(shared, item, monitor)
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["llmtune.corpus.portions"])
        # Not `max_tasks_per_child`: with it the pool waits for ever when processes end at the last items.
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work, shared))
        ended = False
        peaks: dict[int, int] = {}  # process → bytes
        try:
            for first in _ahead((partial(pool.submit, _do, item) for item in items), _AHEAD * workers):
                while not wait_for([first], _TICK).done:
                    monitor.safe_point()
                worker, peak, attempted = first.result()
                peaks[worker] = peak
                count_helpers(sum(peaks.values()))
                yield _result_of(attempted)
            ended = True
        except (BrokenProcessPool, BrokenPipeError) as error:
            raise Disturbed(
                "a process that read documents was ended from outside, perhaps for its memory",
                where="corpus",
                fix="the same command goes on, and with `workers: 1` it needs the least memory; a script of your own "
                'that does this work belongs under `if __name__ == "__main__":`',
            ) from error
        finally:
            for process in list((pool._processes or {}).values()) if not ended else ():
                process.terminate()  # what is not finished is begun again by the next build
            pool.shutdown(cancel_futures=True)


class RayEngine:
    """Tasks on a Ray cluster: the one that `RAY_ADDRESS` names, or one that is started here. Sources and the work
    folder must be at the same paths on all its machines."""

    def __init__(self, workers: int | None) -> None:
        self._ray: Any = need("ray", "`engine: ray`")
        self._workers = workers

    def map(
        self, work: Work[Shared, Item, Result], shared: Shared, items: Sequence[Item], monitor: Monitor
    ) -> Iterator[Result]:
        ray = self._ray
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            here: dict[str, Any] = {} if address else {"num_cpus": self._workers, **_LOCAL_RAY}
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
        at_once = self._workers or _AHEAD * int(ray.cluster_resources().get("CPU", 1))
        # Not again: a task that was ended for its memory would be ended for ever.
        task, given = ray.remote(_attempt).options(max_retries=0), ray.put((work, shared))
        waiting: list[Any] = []

        def begin(item: Item) -> Any:
            waiting.append(task.remote(given, item))
            return waiting[-1]

        try:
            for first in _ahead((partial(begin, item) for item in items), at_once):
                while not ray.wait([first], timeout=_TICK)[0]:
                    monitor.safe_point()
                waiting.remove(first)
                try:
                    attempted = ray.get(first)
                except ray.exceptions.RayError as error:
                    fix = "the same command goes on; see the logs of the Ray cluster"
                    raise Disturbed(f"a task on Ray was lost: {error}", where="corpus", fix=fix) from error
                yield _result_of(attempted)
        finally:
            _, left = ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
            for one in left:
                ray.cancel(one)  # not by force: Ray (2.60) can crash when a task ends at that moment
            if left:
                ray.wait(left, num_returns=len(left), timeout=_PATIENCE)  # what they write is not wanted later


def _ahead(starts: Iterator[Callable[[], Item]], at_once: int) -> Iterator[Item]:
    """What the starts give, in order; always so many are begun before the first is waited for."""
    waiting: deque[Item] = deque()
    for start in starts:
        waiting.append(start())
        if len(waiting) == at_once:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _attempt(given: tuple[Work[Any, Any, Any], Any], item: Any) -> tuple[Any, Exception | None]:
    """(result, None), or (None, what was raised), which can go to another process whatever it was."""
    work, shared = given
    try:
        return work(shared, item, Monitor()), None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
        except Exception:
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


def _result_of(attempted: tuple[Any, Exception | None]) -> Any:
    result, error = attempted
    if error is not None:
        raise error
    return result


_given: tuple[Work[Any, Any, Any], Any] | None = None  # of this process of a pool


def _begin(work: Work[Any, Any, Any], shared: Any) -> None:
    """In a new process of the pool."""
    global _given
    _given = (work, shared)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A process whose parent was killed must not go on writing where the next build does."""
    wait([sentinel])
    os._exit(1)


def _do(item: Any) -> tuple[int, int, tuple[Any, Exception | None]]:
    """(number of this process, the most memory it held, what came of it)."""
    assert _given is not None
    attempted = _attempt(_given, item)
    return_freed_memory()  # what the libraries keep of it would grow with the corpus
    return os.getpid(), peak_resident(), attempted
