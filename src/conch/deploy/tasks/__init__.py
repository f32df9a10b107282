"""The table of tasks that can be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from conch.deploy.tasks import audio, generation, image, multimodal, text, text_to_text
from conch.deploy.tasks.spec import ParameterSpec, Task, TensorSpec
from conch.errors import InvalidArgumentError

TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for module in (text, image, audio, multimodal, generation, text_to_text) for task in module.TASKS}
)

#: Other names of tasks, as the hub and older versions of transformers use them.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "sentiment-analysis": "text-classification",
        "ner": "token-classification",
        "text-to-speech": "text-to-audio",
        "sentence-similarity": "sentence-embedding",
        "image-to-text": "image-text-to-text",
    }
)


def find_task(name: str) -> Task:
    """The task of that name or alias.

    Raises:
        InvalidArgumentError: there is none.
    """
    task = TASKS.get(ALIASES.get(name, name))
    if task is None:
        raise InvalidArgumentError(f"unknown task '{name}'; expected one of: {', '.join(sorted(TASKS))}")
    return task


__all__ = ["ALIASES", "TASKS", "ParameterSpec", "Task", "TensorSpec", "find_task"]
