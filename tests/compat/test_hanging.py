"""Models on which a Triton waits for ever: conch tells that they cannot be loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .exchange import send
from .messages import MODELS_DIRECTORY, HttpAnswer, HttpRequest, ServerSpec
from .server import RunningServer

ON_DEMAND = ServerSpec("hanging", "hanging", ("--model-control-mode=explicit",))
MODELS = sorted(path.name for path in (MODELS_DIRECTORY / "hanging").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_load_of_a_model_that_hangs_a_triton_fails_with_a_reason(
    model: str, start_server: Callable[[ServerSpec], RunningServer]
) -> None:
    answer = send(HttpRequest("POST", f"/v2/repository/models/{model}/load"), start_server(ON_DEMAND).target)
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 400
    assert answer.json["error"].startswith(f"load failed for model '{model}': version 1 is at UNAVAILABLE state: ")
