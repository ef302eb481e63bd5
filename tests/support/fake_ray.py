"""The part of Ray that the pool of a fleet uses; workers run at once, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """Any error of Ray."""


class RayTaskError(RayError):
    """A method has raised an exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"Traceback ...\n{type(cause).__name__}: {cause}")
        self.cause = cause


class RayActorError(RayError):
    """A worker's process has died, or could not start."""

    def __init__(self, text: str, actor_init_failed: bool = False) -> None:
        super().__init__(text)
        self.actor_init_failed = actor_init_failed


class Died(BaseException):
    """The exception that a worker raises where its process would die."""


class FakeRay:
    """A fake of the module `ray`; a reference to an answer is a number."""

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, RayActorError=RayActorError
    )

    def __init__(self, nodes: Sequence[dict[str, float]]) -> None:
        self._nodes = nodes
        self.asked: dict[str, Any] = {}  # options of the workers
        self.address = ""
        self.killed = 0
        self.running = False
        self.answers: list[Callable[[], Any]] = []

    def init(self, address: str, **_: Any) -> None:
        self.address = address
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self._nodes]

    def remote(self, kind: type) -> FakeRay:
        self._kind = kind
        return self

    def options(self, **options: Any) -> SimpleNamespace:
        self.asked = options
        return SimpleNamespace(remote=lambda *arguments: FakeActor(self, self._kind, arguments))

    def wait(
        self, refs: list[int], num_returns: int = 1, timeout: float = 0
    ) -> tuple[list[int], list[int]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref: int) -> Any:
        return self.answers[ref]()

    def kill(self, actor: FakeActor, no_restart: bool) -> None:
        assert not no_restart
        self.killed += 1

    def answer(self, work: Callable[[], Any]) -> int:
        """Do some work; return the number of the answer."""
        outcome: Any
        try:
            outcome = work()
        except Exception as error:
            outcome = RayTaskError(error)
        except Died:
            print("(raylet) A worker died or was killed")
            outcome = RayActorError("The actor died unexpectedly.")

        def get() -> Any:
            if isinstance(outcome, RayError):
                raise outcome
            return outcome

        self.answers.append(get)
        return len(self.answers) - 1


class FakeActor:
    """A worker that is created at once."""

    def __init__(self, ray: FakeRay, kind: type, arguments: tuple[Any, ...]) -> None:
        self._ray = ray
        self._failure: Exception | None = None
        self._worker: Any = None
        try:
            self._worker = kind(*arguments)
        except Exception as error:
            self._failure = error
        self.process = SimpleNamespace(remote=self._process)
        self.__ray_ready__ = SimpleNamespace(remote=self._ready)

    def _process(self, *arguments: Any) -> int:
        return self._ray.answer(lambda: self._worker.process(*arguments))

    def _ready(self) -> int:
        def check() -> bool:
            if self._failure is not None:
                raise self._failure
            return True

        ref = self._ray.answer(check)
        if self._failure is not None:
            text = (
                f"The actor died because of an error raised in its creation task\n{self._failure}"
            )

            def get() -> Any:
                raise RayActorError(text, actor_init_failed=True)

            self._ray.answers[ref] = get
        return ref
