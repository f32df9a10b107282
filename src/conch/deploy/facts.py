"""Read from a checkpoint what the plan of its model needs: sizes, class names, pooling."""

from __future__ import annotations

import json
from typing import Any

from conch.deploy.checkpoint import Checkpoint, read_json
from conch.deploy.extras import require, transformers
from conch.deploy.languages import read_writing
from conch.deploy.plan import CheckpointFacts
from conch.deploy.tasks import Task
from conch.deploy.tasks.spec import IMAGE_INPUTS
from conch.deploy.text_to_text import NAMES
from conch.deploy.tool_calls import TOOL_CALL_PARSER, tool_call_parser
from conch.deploy.vocoder import vocoder_setting
from conch.errors import InvalidArgumentError, UnavailableError

Setting = tuple[str, str, str]

_POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_facts(checkpoint: Checkpoint, task: Task, *, trust_remote_code: bool = False) -> CheckpointFacts:
    """The facts of a checkpoint for one task.

    Raises:
        InvalidArgumentError: the checkpoint cannot serve the task.
        UnavailableError: it needs a package that is not installed.
    """
    if any(each.name in IMAGE_INPUTS for each in task.inputs):
        _check_image_processor(checkpoint, trust_remote_code)
    if task.name == "decision":
        _check_decision(checkpoint)
    path = checkpoint.path / checkpoint.transformer_directory
    config = transformers().AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    sizes: dict[str, tuple[int, ...]] = {}
    if hidden_size := _hidden_size(config):
        sizes["hidden_size"] = (int(hidden_size),)
    labels = tuple(str(config.id2label[index]) for index in sorted(config.id2label or {}))
    sizes["num_labels"] = (len(labels),) if labels else (-1,)
    if speaker := getattr(config, "speaker_embedding_dim", None):
        sizes["speaker_embedding_dim"] = (int(speaker),)
    settings: list[Setting] = []
    missing: frozenset[str] = frozenset()
    if task.name == "sentence-embedding":
        settings, dimension = _sentence_transformer(checkpoint, hidden_size)
        sizes["embedding_size"] = (dimension,)
    elif task.name == "text-ranking":
        settings = [_ranking_activation(checkpoint, len(labels))]
    elif task.name == "image-feature-extraction":
        sizes["image_features"], missing = _image_features(checkpoint, trust_remote_code)
    elif task.name == "text-generation":
        if parser := tool_call_parser(path):
            settings = [(TOOL_CALL_PARSER, parser, "how calls of functions are written, for the API of OpenAI")]
    elif task.name in NAMES:
        settings = read_writing(checkpoint, task.name, trust_remote_code=trust_remote_code).settings()
    settings += vocoder_setting(checkpoint)
    if checkpoint.transformer_directory:
        settings.append(("subfolder", checkpoint.transformer_directory, "where in the checkpoint the transformer lies"))
    return CheckpointFacts(
        sizes=sizes,
        labels=labels,
        settings=tuple(settings),
        missing_outputs=missing,
        architectures=tuple(checkpoint.architectures),
    )


def _hidden_size(config: Any) -> int | None:
    """The size of the vectors of the network that reads text, or of the only one; None where there are several."""
    try:
        return getattr(config.get_text_config(), "hidden_size", None)
    except ValueError:  # networks of several text configurations: MusicGen reads texts and writes codes
        return None


def _sentence_transformer(checkpoint: Checkpoint, hidden_size: int | None) -> tuple[list[Setting], int]:
    """Pooling, projections and normalisation of a sentence-transformers checkpoint, and the size of its vectors.

    A plain transformer is pooled as sentence-transformers does with one: the mean of its tokens.
    """
    pooling, normalize, dense, size = "mean", False, [], int(hidden_size or -1)
    for module in checkpoint.modules:
        kind, directory = module["type"].rsplit(".", 1)[-1], module["path"]
        if kind == "Pooling":
            config = read_json(checkpoint.path / directory / "config.json")
            if config.get("include_prompt") is False:
                raise InvalidArgumentError(
                    f"'{checkpoint.source}' leaves its prompts out of the pooling (include_prompt is false), which is "
                    "not supported. Deploy it with a model.py of your own"
                )
            pooling = _pooling_mode(config)
            size *= len(pooling.split(","))
        elif kind == "Dense":
            dense.append(directory)
            size = int(read_json(checkpoint.path / directory / "config.json")["out_features"])
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise InvalidArgumentError(
                f"'{checkpoint.source}' has the sentence-transformers module '{module['type']}'; expected Transformer, "
                "Pooling, Dense and Normalize. Deploy it with a model.py of your own"
            )
    prompts = read_json(checkpoint.path / "config_sentence_transformers.json")
    settings: list[Setting] = [
        ("pooling", pooling, "how token vectors become one: mean, cls, max, lasttoken, weightedmean, ..."),
        ("normalize", "true" if normalize else "false", "scale vectors to length 1"),
    ]
    if dense:
        settings.append(("dense", " ".join(dense), "projections after pooling"))
    if length := read_json(checkpoint.path / checkpoint.transformer_directory / "sentence_bert_config.json").get(
        "max_seq_length"
    ):
        settings.append(("max_seq_length", str(length), "texts are cut to that many tokens"))
    if any((prompts.get("prompts") or {}).values()):
        settings.append(("prompts", json.dumps(prompts["prompts"]), "what `prompt_name` may name (JSON)"))
    if prompts.get("default_prompt_name"):
        settings.append(
            ("default_prompt_name", prompts["default_prompt_name"], "the prompt of requests that name none")
        )
    return settings, size


def _pooling_mode(config: dict[str, Any]) -> str:
    """The pooling modes of a Pooling module, comma separated (their vectors are concatenated)."""
    named = config.get("pooling_mode")
    if named:
        return ",".join(named) if isinstance(named, list) else str(named)
    return ",".join(mode for key, mode in _POOLING_MODES.items() if config.get(key)) or "mean"


def _ranking_activation(checkpoint: Checkpoint, num_labels: int) -> Setting:
    """What a cross-encoder does with its logit; sentence-transformers applies a sigmoid unless the config says else."""
    if num_labels != 1:
        raise InvalidArgumentError(
            f"'{checkpoint.source}' has {num_labels} classes; text-ranking expected a cross-encoder with 1"
        )
    config = checkpoint.config
    named = read_json(checkpoint.path / "config_sentence_transformers.json").get("activation_fn")
    named = named or (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function") or "torch.nn.modules.activation.Sigmoid"
    activation = named.rsplit(".", 1)[-1].lower()
    if activation not in ("sigmoid", "identity"):
        raise InvalidArgumentError(f"activation '{named}' of '{checkpoint.source}'; expected Sigmoid or Identity")
    return ("activation", activation, "what turns a logit into a score: sigmoid or identity")


def _check_decision(checkpoint: Checkpoint) -> None:
    """Refuse a plain language model that transformers would give a decision head with weights of its own invention."""
    transformers()
    heads = require("transformers.models.auto.modeling_auto").MODEL_FOR_DECISION_MAPPING_NAMES
    invented = checkpoint.model_type in heads and heads[checkpoint.model_type] not in checkpoint.architectures
    if invented and not checkpoint.has_decision_head:
        raise InvalidArgumentError(
            f"'{checkpoint.source}' has no trained decision head: expected decision.json or the architecture "
            f"{heads[checkpoint.model_type]}, got {checkpoint.architectures}"
        )


def _check_image_processor(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    """Refuse a checkpoint whose images only torchvision can prepare where that is missing."""
    try:
        transformers().AutoImageProcessor.from_pretrained(checkpoint.path, trust_remote_code=trust_remote_code)
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        name = str(error).split()[0]
        raise UnavailableError(
            f"the images of '{checkpoint.source}' are prepared by {name}, which needs torchvision: "
            "pip install torchvision, of the same build as torch (CPU or CUDA), where models are deployed and served"
        ) from error
    except (OSError, ValueError):  # no image processor: whether the task needs one, its pipeline knows
        return


def _image_features(checkpoint: Checkpoint, trust_remote_code: bool) -> tuple[tuple[int, ...], frozenset[str]]:
    """The shape of one image's features (-1 where it may depend on the image), and the outputs that are missing."""
    image = require("PIL.Image", "pillow").new("RGB", (64, 48))
    pipe = transformers().pipeline(
        "image-feature-extraction", model=str(checkpoint.path), device="cpu", trust_remote_code=trust_remote_code
    )
    output = pipe.forward(pipe.preprocess(image))
    shape = tuple(output[0].shape)[1:]
    if len(shape) == 3:  # a feature map: [channels, height, width]
        sizes: tuple[int, ...] = (int(shape[0]), -1, -1)
    else:
        sizes = (-1, int(shape[-1]))
    return sizes, frozenset() if "pooler_output" in output else frozenset({"pooler_output"})
