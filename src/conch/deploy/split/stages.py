"""The Python parts that several splitters use, and what travels between them and the core."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conch.deploy.family import libraries_of
from conch.deploy.split.parts import PythonPart
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_tokenizer
from conch.deploy.split.tokens import token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

#: Settings of the plan that every Python part reads: what its requests may say.
_SHARED_SETTINGS = ("task", "request_parameters", "default_parameters")
#: What turns logits into scores, as a number for each request: `heads.ACTIVATIONS`.
ACTIVATION = TensorSpec(
    "activation", DataType.INT32, (1,), "what makes scores of logits: 0 nothing, 1 softmax, 2 sigmoid"
)


def python_part(
    subject: Subject,
    suffix: str,
    template: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    summary: str,
    files: PartFiles = ((), {}),
    stage: str = "",
    **others: Any,
) -> PythonPart:
    """A part with a model.py, told of the request parameters that the whole task takes.

    Args:
        files: settings beside the shared ones, and contents of the version directory.
        stage: the suffix unless it is said.
    """
    settings, contents = files
    shared = tuple(each for each in subject.plan.settings if each[0] in _SHARED_SETTINGS)
    return PythonPart(
        suffix=suffix,
        stage=stage or suffix,
        summary=summary,
        template=template,
        libraries=libraries_of(template),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        settings=(*shared, *settings),
        contents=contents,
        **others,
    )


def unpadded_setting(inputs: Sequence[TensorSpec]) -> tuple[tuple[str, str, str], ...]:
    """Which tensors of unequal size the rows of one request must not bring; none if all have one size."""
    names = [spec.name for spec in inputs if -1 in spec.dims]
    return (("unpadded", " ".join(names), "outputs of which all rows of a request have one size"),) if names else ()


def tokenize_part(
    subject: Subject,
    names: Sequence[str],
    tokenization: Tokenization,
    *,
    suffix: str = "preprocess",
    settings: Sequence[str] = (),
    extra: Sequence[TensorSpec] = (),
    more_settings: Sequence[tuple[str, str, str]] = (),
) -> PythonPart:
    """Texts to tokens, without transformers.

    Args:
        names: the token tensors the core takes.
        settings: keys of the plan's settings that the part reads too.
        extra: outputs beside the tokens.

    Raises:
        CannotSplit: only transformers' own tokenizer makes these tokens.
    """
    own, contents = light_tokenizer(subject.pipe.tokenizer, subject.model.config, tokenization)
    kept = tuple(each for each in subject.plan.settings if each[0] in settings)
    taken = {"texts": ("text",), "query-texts": ("query", "text"), "premise-labels": ("text", "candidate_labels")}
    read = taken.get(tokenization.reads, ("text", "text_pair"))
    return python_part(
        subject,
        suffix,
        "tokenize_text.py",
        [spec for spec in subject.plan.inputs if spec.name in read],
        (*token_specs(names, many=tokenization.reads != "text"), *extra),
        summary="texts to tokens",
        files=((*own, *kept, *more_settings), padded_right(contents)),
        stage="preprocess",
    )


def padded_right(contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The same tokenizer with padding at the end, where the batcher pads and the graphs of encoders expect it."""
    settings = json.loads(contents["tokenizer_settings.json"]) | {"padding_side": "right"}
    return {**contents, "tokenizer_settings.json": json.dumps(settings, indent=1).encode()}


def default_function(config: Any, task: str) -> str:
    """What the task's pipeline makes scores of logits with: "softmax", "sigmoid" or "none"."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification":
        return "sigmoid"
    if task == "audio-classification":
        return "softmax"
    return "sigmoid" if config.num_labels == 1 else "softmax"


def configuration_files(subject: Subject) -> tuple[Path, ...]:
    """The checkpoint's files but its weights."""
    weights = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
    trusted = subject.plan.choices.trust_remote_code
    return tuple(path for path in subject.checkpoint.files(code=trusted) if path.suffix not in weights)


def activation_setting(subject: Subject) -> tuple[str, str, str]:
    """What the preprocess puts into `activation` for requests that do not say."""
    function = default_function(subject.model.config, subject.plan.task.name)
    return ("function_to_apply", function, "what makes scores of logits unless a request says otherwise")


def classify_part(subject: Subject, inputs: Sequence[TensorSpec]) -> PythonPart:
    """The names of the classes; where the core makes no `probs`, these too."""
    made = {spec.name for spec in inputs}
    settings = () if "probs" in made else (activation_setting(subject),)
    return python_part(
        subject,
        "postprocess",
        "classify.py",
        inputs,
        [spec for spec in subject.plan.outputs if spec.name not in made],
        summary="names of the classes",
        files=(settings, {"labels.json": json.dumps(subject.plan.labels, ensure_ascii=False).encode()}),
    )


def rank_part(
    subject: Subject,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    *,
    settings: Sequence[tuple[str, str, str]] = (),
    input_map: Mapping[str, str] | None = None,
) -> PythonPart:
    """Those outputs of the task that are in the order of the scores."""
    return python_part(
        subject,
        "postprocess",
        "rank_labels.py",
        inputs,
        [spec for spec in subject.plan.outputs if spec.name in outputs],
        summary="the ranking",
        files=(tuple(settings), {}),
        input_map=input_map or {},
    )
