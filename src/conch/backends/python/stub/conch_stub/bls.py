"""Business logic scripting: requests of a model to other models, and the models it loads and unloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import request as requests
from .arena import ReaderArena
from .calls import Answers, server
from .child_memory import ChildMemory
from .errors import ErrorCode, TritonError, TritonModelException
from .outgoing import Outgoing
from .protocol import FAILED, GIVE_UP, INFER, LOAD_MODEL, MODEL_READY, UNLOAD_MODEL
from .tensor import received, with_loans

_new = object.__new__

ONLY_IN_EXECUTE = "BLS is only supported during the 'execute' function."


class Caller:
    """What requests to other models need of the process they are made in.

    Args:
        memory: where large tensors lie.
    """

    def __init__(self, memory: ChildMemory) -> None:
        self._arena = ReaderArena(memory.inputs)
        self._memory = memory
        server().on_unwanted = self._let_go

    def _let_go(self, answer: tuple[Any, ...]) -> None:
        """Release the memory of an answer whose request was given up before it was read."""
        if answer[2] == FAILED:
            return
        _, _, _, _, place, retired, _, loans = answer
        if retired:
            self._arena.retire(retired)
        if place is not None:
            self._arena.release(place[0])
        self._memory.borrower.decline(loans)

    def send(self, request: Any, decoupled: bool) -> Answers:
        """Send a request to the model it names."""
        outgoing = Outgoing(self._memory)
        tensors = outgoing.add(request.inputs(), None)
        if outgoing.large:
            server().poll()  # segments may have been released
            outgoing.place()
        wire = (
            tensors,
            request._id,
            request._correlation_id,
            request._flags,
            request._timeout,
            request._parameters,
            request._outputs,
        )
        released = self._arena.take_released()
        returned = self._memory.borrower.take_returned()
        trace = request._trace
        traced_for = None if trace is None else trace._request
        model = request._model_name, request._model_version
        return server().call(INFER, wire, *model, decoupled, released, returned, traced_for)

    def response(self, answer: tuple[Any, ...]) -> Any:
        """The InferenceResponse of an answer."""
        if answer[2] == FAILED:
            return requests.InferenceResponse(error=TritonError(answer[3], ErrorCode.INTERNAL))
        _, _, _, wire, place, retired, _, loans = answer
        if retired:
            self._arena.retire(retired)
        if wire is None:
            return requests.InferenceResponse()
        code, content, parameters = wire
        if code is not None:
            return requests.InferenceResponse(error=TritonError(content, ErrorCode(code)))
        segment = None if place is None else self._arena.view(*place)
        if loans:
            content = with_loans(content, self._memory.borrower.take(loans))
        response: Any = _new(requests.InferenceResponse)
        response._tensors = [received(tensor, segment) for tensor in content]
        response._error = None
        response._parameters = parameters
        return response


_caller: Caller | None = None


def allow(caller: Caller | None) -> None:
    """From now on models may be called through `caller`; None: they may not."""
    global _caller
    _caller = caller


def _allowed() -> Caller:
    if _caller is None:
        raise TritonModelException(ONLY_IN_EXECUTE)
    return _caller


def execute(request: Any, decoupled: bool) -> Any:
    """Send a request and wait: its response, or the iterator over its responses."""
    caller = _allowed()
    answers = caller.send(request, decoupled)
    if decoupled:
        return ResponseIterator(caller, answers)
    return caller.response(server().wait(answers))


def execute_async(request: Any, decoupled: bool) -> Any:
    """As `execute`, on the running event loop: the future of what that returns. The request is sent at once."""
    import asyncio

    loop = asyncio.get_running_loop()
    caller = _allowed()
    return loop.create_task(_answer(caller, caller.send(request, decoupled), decoupled))


async def _answer(caller: Caller, answers: Answers, decoupled: bool) -> Any:
    try:
        first = await server().wait_in_loop(answers)
    except BaseException:
        _give_up(answers)
        raise
    if decoupled:
        return ResponseIterator(caller, answers, first)
    return caller.response(first)


def _give_up(answers: Answers) -> None:
    server().forget(answers)
    if not answers.complete:
        server().tell(GIVE_UP, answers.number)


class ResponseIterator:
    """The responses to one request as they come. Iterating again begins with the first one, as they are kept.

    A decoupled model that says no more than that it is done answers with an empty response.
    """

    def __init__(self, caller: Caller, answers: Answers, first: tuple[Any, ...] | None = None) -> None:
        self._caller = caller
        self._answers = answers
        self._responses: list[Any] = []
        self._next = 0
        self._complete = False
        if first is not None:
            self._keep(first)

    def __iter__(self) -> Iterator[Any]:
        self._next = 0
        return self

    def __next__(self) -> Any:
        if self._next == len(self._responses):
            if self._complete:
                raise StopIteration("Iteration is done for the responses.")
            self._keep(server().wait(self._answers))
        response = self._responses[self._next]
        self._next += 1
        return response

    def cancel(self) -> None:
        """Give the request up: the model that answers it sees it cancelled, and no response follows."""
        _give_up(self._answers)
        self._complete = True

    def _keep(self, answer: tuple[Any, ...]) -> None:
        self._complete = answer[1]
        self._responses.append(self._caller.response(answer))

    def __del__(self) -> None:
        if not self._complete and not server().foreign:
            _give_up(self._answers)


def _check_texts(function: str, **given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{function}: {name} must be a str, got {type(value).__name__}")


def load_model(model_name: str, config: str = "", files: dict[str, bytes] | None = None) -> None:
    """Load or reload a model (explicit model control only), with this JSON configuration and these files if given.

    Args:
        files: content by path in the model's directory, behind `file:`.

    Raises:
        TritonModelException: it did not load.
    """
    _check_texts("load_model", model_name=model_name, config=config)
    if files is not None and not isinstance(files, dict):
        raise TritonModelException(
            f"failed to load model '{model_name}', files should be a dictionary of file paths and file contents"
        )
    plain: dict[str, bytes] = {}
    for path, content in (files or {}).items():
        if not path.startswith("file:"):
            raise TritonModelException(
                f"Failed to load model: unexpected path '{path}' in 'files': expected 'file:<path>', as in "
                "'file:1/model.py'"
            )
        if not isinstance(content, (bytes, str)):
            raise TypeError(f"load_model: content of '{path}' must be bytes, got {type(content).__name__}")
        plain[path[len("file:") :]] = content.encode() if isinstance(content, str) else bytes(content)
    try:
        server().ask(LOAD_MODEL, str(model_name), str(config) or None, plain)
    except TritonModelException as error:
        raise TritonModelException(f"Failed to load model: {error}") from None


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Have a model unloaded (explicit model control only); it answers what it accepted before.

    Raises:
        TritonModelException: the server refused.
    """
    _check_texts("unload_model", model_name=model_name)
    try:
        server().ask(UNLOAD_MODEL, str(model_name), bool(unload_dependents))
    except TritonModelException as error:
        raise TritonModelException(f"Failed to unload model: {error}") from None


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Whether that version of a model (any version for "") can answer.

    Raises:
        TritonModelException: the version is no number.
    """
    _check_texts("is_model_ready", model_name=model_name, model_version=model_version)
    try:
        return bool(server().ask(MODEL_READY, str(model_name), str(model_version)))
    except TritonModelException as error:
        raise TritonModelException(f"Failed to check model readiness: {error}") from None
