"""Which task a checkpoint is for, told from what it says of itself."""

from __future__ import annotations

from typing import Any

from conch.deploy.checkpoint import Checkpoint, read_json
from conch.deploy.extras import require, transformers
from conch.deploy.tasks import ALIASES, TASKS, Task, find_task
from conch.errors import InvalidArgumentError

#: Architectures are listed under several tasks; of such a pair the first is meant unless the checkpoint says otherwise.
_PREFERRED = (
    ("text-generation", "decision"),
    ("image-text-to-text", "text-generation"),
    ("image-text-to-text", "decision"),
    ("image-text-to-text", "any-to-any"),
    ("zero-shot-image-classification", "zero-shot-object-detection"),
)

#: Architectures of an encoder and a decoder that are made for one task; others write whatever they were trained to.
_WRITERS = {
    **dict.fromkeys(("marian", "m2m_100", "nllb-moe", "mbart", "fsmt"), "translation"),
    **dict.fromkeys(("pegasus", "pegasus_x", "bigbird_pegasus", "led"), "summarization"),
}
#: Of those that transformers calls sequence to sequence, what generates otherwise than from a text alone.
_NOT_FROM_TEXTS_ALONE = frozenset({"seamless_m4t", "seamless_m4t_v2", "t5gemma2"})


def detect_task(checkpoint: Checkpoint) -> Task:
    """The task of a checkpoint.

    Asked in turn: files that only one kind of checkpoint has, the hub's or the model card's `pipeline_tag`, the
    architecture.

    Raises:
        InvalidArgumentError: the checkpoint fits several tasks (they are listed) or none.
    """
    if checkpoint.has_decision_head:
        return find_task("decision")
    if checkpoint.modules:
        kind = read_json(checkpoint.path / "config_sentence_transformers.json").get("model_type")
        return find_task("text-ranking" if kind == "CrossEncoder" else "sentence-embedding")
    tag = checkpoint.pipeline_tag or card_tag(checkpoint)
    tag = ALIASES.get(tag, tag)
    # The hub calls some models of an encoder and a decoder text-generation, which is for decoders alone.
    if tag in TASKS and not (tag == "text-generation" and writes_anew(checkpoint)):
        return find_task(tag)
    candidates = candidate_tasks(checkpoint)
    if len(candidates) == 1:
        return find_task(candidates[0])
    named = " and ".join(checkpoint.architectures) or f"model type '{checkpoint.model_type}'"
    if candidates:
        raise InvalidArgumentError(
            f"'{checkpoint.source}' ({named}) fits several tasks: pass --task with one of {', '.join(candidates)}"
        )
    removed = f"; its task '{tag}' has no transformers pipeline any more" if tag else ""
    raise InvalidArgumentError(
        f"cannot tell the task of '{checkpoint.source}' ({named}){removed}: pass --task with one of "
        f"{', '.join(sorted(TASKS))}"
    )


def card_tag(checkpoint: Checkpoint) -> str:
    """`pipeline_tag` of the model card (the YAML head of README.md), "" without one."""
    readme = checkpoint.path / "README.md"
    if not readme.is_file():
        return ""
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if key.strip() == "pipeline_tag":
            return value.strip().strip("'\"")
        if line.strip() == "---":
            break
    return ""


def candidate_tasks(checkpoint: Checkpoint) -> list[str]:
    """The tasks whose pipelines take the checkpoint's architecture, less those that something else rules out."""
    config = checkpoint.config
    if writes_anew(checkpoint):
        return [_task_of_writer(checkpoint)]
    tasks = {task for name in checkpoint.architectures for task in _tasks_of_architecture(name, checkpoint.model_type)}
    if "text-classification" in tasks:
        tasks = _classifier_tasks(config)
    if (config.get("encoder") or {}).get("model_type") == "donut-swin":
        tasks.add("document-question-answering")
    for meant, other in _PREFERRED:
        if meant in tasks:
            tasks.discard(other)
    return sorted(tasks)


def writes_anew(checkpoint: Checkpoint) -> bool:
    """Whether it is a model of an encoder and a decoder that writes a text of another."""
    transformers()
    known = require("transformers.models.auto.modeling_auto").MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    name = known.get(checkpoint.model_type)
    if checkpoint.model_type in _NOT_FROM_TEXTS_ALONE or name not in checkpoint.architectures:
        return False
    model = getattr(transformers(), str(name), None)
    return model is not None and model.main_input_name == "input_ids" and model.config_class().is_encoder_decoder


def _task_of_writer(checkpoint: Checkpoint) -> str:
    """What a checkpoint was trained for, or else what its architecture is known for."""
    trained = {key.partition("_")[0] for key in checkpoint.config.get("task_specific_params") or {}}
    named = sorted(trained & {"summarization", "translation"}) or [_WRITERS.get(checkpoint.model_type, "")]
    return named[0] if len(named) == 1 and named[0] else "text2text-generation"


def _classifier_tasks(config: dict[str, Any]) -> set[str]:
    """A sequence classifier may sort texts, rank them, or (trained on entailment) choose among labels."""
    labels = [str(label).lower() for label in (config.get("id2label") or {}).values()]
    if "sentence_transformers" in config or "sbert_ce_default_activation_function" in config:
        return {"text-ranking"} if len(labels) == 1 else {"text-classification"}
    if len(labels) == 1:
        return {"text-classification", "text-ranking"}
    if any(label.startswith("entail") for label in labels):
        return {"text-classification", "zero-shot-classification"}
    return {"text-classification"}


def _tasks_of_architecture(name: str, model_type: str) -> set[str]:
    transformers()
    pipelines = require("transformers.pipelines")
    tasks: set[str] = set()
    for task, entry in pipelines.SUPPORTED_TASKS.items():
        for auto in entry["pt"]:
            names = auto._model_mapping._model_mapping.get(model_type, ())
            if auto.__name__ != "AutoModel" and name in ((names,) if isinstance(names, str) else names):
                tasks.add(task)
    universal = require("transformers.models.auto.modeling_auto").MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    if universal.get(model_type) == name:  # the pipeline takes these too
        tasks.add("image-segmentation")
    return tasks or _tasks_of_bare_model(name, model_type)


def _tasks_of_bare_model(name: str, model_type: str) -> set[str]:
    """A model without a head gives features of whatever it reads."""
    library = transformers()
    if model_type == "clap":
        return {"zero-shot-audio-classification"}
    model = getattr(library, name, None)
    if model is None:
        return set()
    reads = {"pixel_values": "image-feature-extraction", "input_ids": "feature-extraction"}
    main = getattr(model, "main_input_name", "")
    task = reads.get(main, "") if isinstance(main, str) else ""  # OneFormer names several
    return {task} if task and name.endswith("Model") else set()
