"""What conch does with each field of model_config.proto: honour it, ignore it with a warning, or refuse the model.

`SUPPORT` is the single source: validation walks a message along it, and `docs/reference/model_configuration.md` is
written from it (`reference_table`). A field that is not listed takes the support of its nearest listed parent.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec
from google.protobuf.message import Message

from conch.config.proto import Field, MessageType, pb


class Status(enum.Enum):
    """What happens to a model that sets the field."""

    HONOURED = "honoured"
    CARRIED = "carried"
    IGNORED = "ignored"
    REFUSED = "refused"


class Support(msgspec.Struct, frozen=True):
    """The status of a field. `note` completes the sentence "X is ignored: ..." or explains what the field does."""

    status: Status
    note: str


def _honoured(note: str) -> Support:
    return Support(Status.HONOURED, note)


def _carried(note: str) -> Support:
    return Support(Status.CARRIED, note)


def _ignored(note: str) -> Support:
    return Support(Status.IGNORED, note)


def _refused(note: str) -> Support:
    return Support(Status.REFUSED, note)


_TENSORRT = "only TensorRT models have it"

#: Path of a field (dots between message fields) -> support.
SUPPORT: dict[str, Support] = {
    "name": _honoured("must equal the model's directory name; taken from it when empty"),
    "platform": _honoured("chooses the backend when `backend` is empty"),
    "backend": _honoured("deduced from `platform` or the files of the first version when empty"),
    "runtime": _carried("`model.py` for models of Python-based backends; nothing depends on it"),
    "version_policy": _honoured("which version directories are served; `latest` 1 when absent"),
    "version_policy.latest": _honoured("the newest versions"),
    "version_policy.latest.num_versions": _honoured("how many of them"),
    "version_policy.all": _honoured("every version"),
    "version_policy.specific": _honoured("exactly these"),
    "version_policy.specific.versions": _honoured("the version numbers"),
    "max_batch_size": _honoured("0 for a model whose tensors have no batch dimension"),
    "input": _honoured("the tensors a request may bring"),
    "input.name": _honoured("unique among the inputs"),
    "input.data_type": _honoured("element type"),
    "input.format": _carried("checked (NHWC and NCHW need 3 dims) and shown to clients; nothing else depends on it"),
    "input.dims": _honoured("without the batch dimension; -1 is any size"),
    "input.reshape": _honoured("the shape the model receives"),
    "input.reshape.shape": _honoured("same number of elements as `dims`"),
    "input.is_shape_tensor": _refused(_TENSORRT),
    "input.allow_ragged_batch": _honoured("requests whose shapes differ in this input may share a batch"),
    "input.optional": _honoured("a request may leave it out"),
    "input.is_non_linear_format_io": _refused(_TENSORRT),
    "output": _honoured("the tensors a response may bring"),
    "output.name": _honoured("unique among the outputs"),
    "output.data_type": _honoured("element type"),
    "output.dims": _honoured("without the batch dimension; -1 is any size"),
    "output.reshape": _honoured("the shape clients receive"),
    "output.reshape.shape": _honoured("same number of elements as `dims`"),
    "output.label_filename": _honoured("class labels, one a line, relative to the model's directory"),
    "output.is_shape_tensor": _refused(_TENSORRT),
    "output.is_non_linear_format_io": _refused(_TENSORRT),
    "batch_input": _honoured("inputs made of a batch; of [framework backends](backends.md#ragged-batches)"),
    "batch_input.kind": _honoured("what it tells of `source_input`, all six"),
    "batch_input.target_name": _honoured("inputs of the model, none of `input`"),
    "batch_input.data_type": _honoured("TYPE_INT32 or TYPE_FP32"),
    "batch_input.source_input": _honoured("one of `input`"),
    "batch_output": _honoured("outputs taken apart along an input; of framework backends"),
    "batch_output.target_name": _honoured("some of `output`"),
    "batch_output.kind": _honoured("BATCH_SCATTER_WITH_INPUT_SHAPE"),
    "batch_output.source_input": _honoured("one of `input`; sizes of -1 in `dims` are those it has at the same place"),
    "optimization": _ignored("there is nothing to tune this way"),
    "optimization.graph": _honoured("of ONNX Runtime models; other backends have no such levels"),
    "optimization.graph.level": _honoured("-1 basic, 1 extended, 2 none; all optimizations else"),
    "optimization.execution_accelerators": _honoured("of ONNX Runtime models"),
    "optimization.execution_accelerators.gpu_execution_accelerator": _honoured("for instances on a GPU"),
    "optimization.execution_accelerators.gpu_execution_accelerator.name": _honoured("`tensorrt` or `cuda`"),
    "optimization.execution_accelerators.gpu_execution_accelerator.parameters": _honoured("options of the provider"),
    "optimization.execution_accelerators.cpu_execution_accelerator": _honoured("for all instances"),
    "optimization.execution_accelerators.cpu_execution_accelerator.name": _honoured("`openvino`"),
    "optimization.execution_accelerators.cpu_execution_accelerator.parameters": _honoured("options of the provider"),
    "optimization.priority": _ignored("all models have the same priority"),
    "optimization.input_pinned_memory": _carried("a hint for copies to a GPU, which backends make themselves"),
    "optimization.output_pinned_memory": _carried("a hint for copies from a GPU, which backends make themselves"),
    "dynamic_batching": _honoured("requests are put together to batches; absent: each request is a batch"),
    "dynamic_batching.preferred_batch_size": _honoured("sizes to send at once; `max_batch_size` when empty"),
    "dynamic_batching.max_queue_delay_microseconds": _honoured("how long a request may wait for others"),
    "dynamic_batching.preserve_ordering": _honoured("responses leave in the order of the requests"),
    "dynamic_batching.priority_levels": _honoured("0 for no priorities"),
    "dynamic_batching.default_priority_level": _honoured("of requests that name none"),
    "dynamic_batching.default_queue_policy": _honoured("limits of the queue"),
    "dynamic_batching.default_queue_policy.timeout_action": _honoured("REJECT or DELAY"),
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": _honoured("0 for none"),
    "dynamic_batching.default_queue_policy.allow_timeout_override": _honoured("a request may ask for a shorter one"),
    "dynamic_batching.default_queue_policy.max_queue_size": _honoured("0 for no limit"),
    "dynamic_batching.priority_queue_policy": _honoured("limits of one priority level's queue"),
    "dynamic_batching.priority_queue_policy.timeout_action": _honoured("REJECT or DELAY"),
    "dynamic_batching.priority_queue_policy.default_timeout_microseconds": _honoured("0 for none"),
    "dynamic_batching.priority_queue_policy.allow_timeout_override": _honoured("a request may ask for a shorter one"),
    "dynamic_batching.priority_queue_policy.max_queue_size": _honoured("0 for no limit"),
    "sequence_batching": _honoured("the requests of a sequence go to one instance, in order"),
    "sequence_batching.max_sequence_idle_microseconds": _honoured("a sequence without requests for so long is ended"),
    "sequence_batching.direct": _honoured(
        "each sequence has its place in the batches; the strategy when none is given"
    ),
    "sequence_batching.direct.max_queue_delay_microseconds": _honoured("how long a request may wait for others"),
    "sequence_batching.direct.minimum_slot_utilization": _honoured("share of the places worth sending at once"),
    "sequence_batching.oldest": _honoured("batches of the oldest requests of different sequences"),
    "sequence_batching.oldest.max_candidate_sequences": _honoured("sequences of an instance at the same time"),
    "sequence_batching.oldest.preferred_batch_size": _honoured("sizes to send at once; `max_batch_size` when empty"),
    "sequence_batching.oldest.max_queue_delay_microseconds": _honoured("how long a request may wait for others"),
    "sequence_batching.oldest.preserve_ordering": _honoured("responses leave in the order of the requests"),
    "sequence_batching.control_input": _honoured("tensors that the server adds to each request"),
    "sequence_batching.control_input.name": _honoured("not an input of the model"),
    "sequence_batching.control_input.control": _honoured("what the tensor tells; one entry"),
    "sequence_batching.control_input.control.kind": _honoured("START, END, READY or CORRID"),
    "sequence_batching.control_input.control.int32_false_true": _honoured("INT32 values of a flag"),
    "sequence_batching.control_input.control.fp32_false_true": _honoured("FP32 values of a flag"),
    "sequence_batching.control_input.control.bool_false_true": _honoured("BOOL values of a flag"),
    "sequence_batching.control_input.control.data_type": _honoured("of CORRID: TYPE_STRING or 32 or 64 bit integers"),
    "sequence_batching.state": _honoured("outputs that become inputs of the sequence's next request"),
    "sequence_batching.state.input_name": _honoured("the input"),
    "sequence_batching.state.output_name": _honoured("the output; clients see it only if it is in `output` as well"),
    "sequence_batching.state.data_type": _honoured("element type"),
    "sequence_batching.state.dims": _honoured("without the batch dimension; -1 is any size, at first 1"),
    "sequence_batching.state.initial_state": _honoured("what a sequence starts from; zeros when absent"),
    "sequence_batching.state.initial_state.data_type": _honoured("must be that of the state"),
    "sequence_batching.state.initial_state.dims": _honoured("must fit those of the state"),
    "sequence_batching.state.initial_state.zero_data": _honoured("zeros, or empty strings"),
    "sequence_batching.state.initial_state.data_file": _honoured("raw elements, a file in `initial_state/`"),
    "sequence_batching.state.initial_state.name": _carried("for humans"),
    "sequence_batching.state.use_same_buffer_for_input_output": _carried("tensors are passed on without a copy"),
    "sequence_batching.state.use_growable_memory": _carried("memory grows by itself"),
    "sequence_batching.iterative_sequence": _honoured("each request is a sequence that the model may execute again"),
    "ensemble_scheduling": _honoured("the model is an ensemble: a pipeline of other models"),
    "ensemble_scheduling.max_inflight_requests": _honoured(
        "requests of the ensemble, or responses of its decoupled steps, at one step at the same time; 0 for no limit"
    ),
    "ensemble_scheduling.step": _honoured("the models, in any order"),
    "ensemble_scheduling.step.model_name": _honoured("a model of the repositories, which may be an ensemble itself"),
    "ensemble_scheduling.step.model_version": _honoured("-1 for the newest version that is ready"),
    "ensemble_scheduling.step.input_map": _honoured("the step's input -> the ensemble's tensor"),
    "ensemble_scheduling.step.output_map": _honoured("the step's output -> the ensemble's tensor"),
    "ensemble_scheduling.step.model_namespace": _ignored(
        "written by the server with --model-namespacing: which model the step is"
    ),
    "instance_group": _honoured("how many instances of the model run, and where"),
    "instance_group.name": _honoured("`<model>_<position>` when empty; instances are `<group name>_<index>`"),
    "instance_group.kind": _honoured(
        "KIND_AUTO takes GPUs where there are any; KIND_GPU without a GPU runs on the CPU"
    ),
    "instance_group.count": _honoured("instances (for each GPU); less than 1 is 1"),
    "instance_group.gpus": _honoured("device numbers; all GPUs when empty"),
    "instance_group.rate_limiter": _honoured("with `--rate-limit=execution_count`"),
    "instance_group.rate_limiter.resources": _honoured("what an instance needs while it executes"),
    "instance_group.rate_limiter.resources.name": _honoured("shared by all models"),
    "instance_group.rate_limiter.resources.global": _honoured("one for the server, not for each device"),
    "instance_group.rate_limiter.resources.count": _honoured("how much of it"),
    "instance_group.rate_limiter.priority": _honoured("2 has half as many turns as 1"),
    "instance_group.secondary_devices": _ignored("there are no secondary devices"),
    "instance_group.profile": _refused(_TENSORRT),
    "instance_group.passive": _honoured("a passive instance takes no requests, so none is started"),
    "instance_group.host_policy": _ignored("there are no host policies"),
    "default_model_filename": _honoured("the file in the version directory; the backend's usual name when empty"),
    "cc_model_filenames": _ignored("the file is chosen by `default_model_filename` alone"),
    "metric_tags": _honoured("labels of every metric of the model"),
    "parameters": _honoured(
        "strings for the backend and the model; `conch.padding` declares [padding](../guides/padding.md)"
    ),
    "parameters.string_value": _honoured("the value"),
    "model_warmup": _honoured("requests that each instance executes before clients' ones; a failure fails the load"),
    "model_warmup.name": _honoured("named in errors"),
    "model_warmup.batch_size": _honoured("requests in one batch; 0 for none at all"),
    "model_warmup.count": _honoured("how often; at least once"),
    "model_warmup.inputs": _honoured("inputs of each request, controls and states of sequences among them"),
    "model_warmup.inputs.data_type": _honoured("element type"),
    "model_warmup.inputs.dims": _honoured("without the batch dimension; no -1"),
    "model_warmup.inputs.zero_data": _honoured("zeros, or empty strings"),
    "model_warmup.inputs.random_data": _honoured("random bits, or random letters"),
    "model_warmup.inputs.input_data_file": _honoured("raw elements, a file in `warmup/`"),
    "model_operations": _honoured("custom operators of ONNX Runtime models"),
    "model_operations.op_library_filename": _honoured("shared libraries, relative to the model's directory"),
    "model_transaction_policy": _honoured("how many responses a request has"),
    "model_transaction_policy.decoupled": _honoured(
        "any number of responses, over gRPC streams; an ensemble has it from its steps"
    ),
    "model_repository_agents": _refused("repository agents are not available"),
    "response_cache": _honoured("answers are kept, and given to equal requests"),
    "response_cache.enable": _honoured("off by default; not for decoupled models and models of sequences"),
    "model_metrics": _honoured("buckets of histograms, with `--metrics-config=histogram_latencies=true`"),
    "model_metrics.metric_control": _honoured("one entry a family"),
    "model_metrics.metric_control.metric_identifier": _honoured("which metric"),
    "model_metrics.metric_control.metric_identifier.family": _honoured("`nv_inference_first_response_histogram_ms`"),
    "model_metrics.metric_control.histogram_options": _honoured("how it is shown"),
    "model_metrics.metric_control.histogram_options.buckets": _honoured("upper bounds in ms, ascending"),
}


def is_map(field: Field) -> bool:
    """Whether a field is a protobuf map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def message_of(field: Field) -> MessageType | None:
    """The message type below a field (of a map: of its values), None for scalars."""
    if is_map(field):
        return field.message_type.fields_by_name["value"].message_type
    return field.message_type


def field_paths(descriptor: MessageType = pb.ModelConfig.DESCRIPTOR, prefix: str = "") -> Iterator[str]:
    """Every field of the configuration as a path, parents first, map keys and values left out."""
    for field in descriptor.fields:
        path = prefix + field.name
        yield path
        below = message_of(field)
        if below is not None:
            yield from field_paths(below, path + ".")


def support_of(path: str) -> Support:
    """The support of a field, its own or that of the nearest parent listed.

    Raises:
        KeyError: neither the field nor a parent of it is listed.
    """
    candidate = path
    while candidate not in SUPPORT:
        candidate, dot, _ = candidate.rpartition(".")
        if not dot:
            raise KeyError(path)
    return SUPPORT[candidate]


def fields_with(message: Message, status: Status) -> list[str]:
    """The fields set in a message (to something other than their default) that have that status, in proto order.

    Only the outermost field is named: a refused message field hides what it holds.
    """
    found: dict[str, None] = {}
    _collect(message, "", status, found)
    return list(found)


def _collect(message: Message, prefix: str, status: Status, found: dict[str, None]) -> None:
    for field, value in message.ListFields():
        path = prefix + field.name
        listed_below = any(known.startswith(path + ".") for known in SUPPORT)
        if support_of(path).status is status and not listed_below:
            found[path] = None
        elif message_of(field) is None:
            continue
        elif is_map(field):
            for entry in value.values():
                _collect(entry, path + ".", status, found)
        elif field.is_repeated:
            for entry in value:
                _collect(entry, path + ".", status, found)
        else:
            _collect(value, path + ".", status, found)


def reference_table() -> str:
    """The support of every field as a Markdown table; children of a field that is not honoured are left out."""
    lines = ["| field | conch | |", "|---|---|---|"]
    for path in field_paths():
        parent = path.rpartition(".")[0]
        if path in SUPPORT or (parent and support_of(parent).status is Status.HONOURED):
            support = support_of(path)
            lines.append(f"| `{path}` | {support.status.value} | {support.note} |")
    return "\n".join(lines) + "\n"
