"""What is done one batch ahead of the student's step: reading, and asking the teacher on threads of its own."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch

from kdgen.training.teacher_cache import Stream
from kdgen.types import Batch, TeacherOutput
from kdgen.utils.devices import fastest_seconds, threads

CPU = torch.device("cpu")


def ahead(stream: Stream, num_threads: int = 0) -> Generator[tuple[Batch, TeacherOutput | None]]:
    """The same stream, its next batch always being read already by a thread.

    Args:
        stream: read by that thread alone; what it computes, it computes there.
        num_threads: how many of the processor's threads that one has, taken from those of the caller; 0 shares all.
    """
    helper, own = _helper(num_threads)
    with helper, own:
        coming = helper.submit(next, stream)
        while True:
            batch = coming.result()
            coming = helper.submit(next, stream)
            yield batch


def answered(stream: Stream, ask: Callable[[Batch], TeacherOutput | None]) -> Stream:
    """The same stream, with the teacher asked about what has no answer yet."""
    return ((batch, ask(batch) if answer is None else answer) for batch, answer in stream)


def threads_for(teacher: Callable[[], object], student: Callable[[], object]) -> int:
    """How many of the processor's threads the teacher best has for itself while the student learns on the others.

    Many small operations keep several threads busy badly, and two nets at a time do it better; where one net is much
    the larger the other's threads would wait for it. So it is tried.

    Args:
        teacher: asks the teacher about a batch.
        student: runs the student's step on one.

    Returns:
        a number of threads; 0 where one after the other on all of them is as fast.
    """
    total = torch.get_num_threads()
    if total < 2:
        return 0
    alone = [fastest_seconds(run, CPU) for run in (teacher, student)]
    share = min(max(round(total * alone[0] / sum(alone)), 1), total - 1)
    helper, own = _helper(share)
    with helper, own:

        def together() -> None:
            pending = helper.submit(teacher)
            student()
            pending.result()

        return share if fastest_seconds(together, CPU) < sum(alone) else 0


def _helper(num_threads: int) -> tuple[ThreadPoolExecutor, AbstractContextManager[None]]:
    """A thread with ``num_threads`` of the processor's threads, and the context in which the caller has the others."""
    if not num_threads:
        return ThreadPoolExecutor(1, "batches"), nullcontext()
    left = torch.get_num_threads() - num_threads
    return ThreadPoolExecutor(1, "teacher", torch.set_num_threads, (num_threads,)), threads(left)
