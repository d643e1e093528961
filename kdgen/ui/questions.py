"""What the setup side asks about models, answered in a process of its own, while the page goes on."""

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kdgen.types import UserError, text
from kdgen.ui.worker import Worker

KEPT = 256
"""Answers that are kept."""

MOST = 32
"""Questions that may wait for their answers."""


class Waiting(UserError):
    """What was asked is still being worked out."""


class Questions:
    """Asks a worker, one question after another, each once.

    Args:
        worker: answers.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="questions")
        self._answers: OrderedDict[tuple[Any, ...], Future[Any]] = OrderedDict()

    def ask(self, name: str, *args: Any, wait: float) -> Any:
        """What a function of ``kdgen.ui.answering`` gives, kept for those who ask the same.

        Args:
            name: of the function.
            args: its arguments, hashable.
            wait: seconds to wait; the answer is worked out nevertheless.

        Raises:
            Waiting: if it is not there by then.
            UserError: what the function raised; and where too many questions wait.
        """
        key = (name, *args)
        with self._lock:
            if key not in self._answers:
                if sum(not each.done() for each in self._answers.values()) >= MOST:
                    raise UserError(text("asking_busy", "many others are asking at the moment: try again in a while"))
                self._answers[key] = self._pool.submit(self.worker.call, name, *args)
            self._answers.move_to_end(key)
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)[1].cancel()
            answer = self._answers[key]
        try:
            return answer.result(wait)
        except TimeoutError:
            raise Waiting(text("still_asked", "this is still being worked out: try again in a moment")) from None
        except UserError:
            with self._lock:
                if self._answers.get(key) is answer:
                    del self._answers[key]
            raise

    def end(self) -> None:
        """Take no more questions, and end the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.worker.end()


__all__ = ["Questions", "Waiting"]
