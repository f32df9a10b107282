"""A model file as something to call: TorchScript and torch.export behind one face."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from conch.backends.signature import ModelTensor, Signature
from conch.errors import BackendError, InternalError, InvalidArgumentError, UnavailableError, UnsupportedError
from conch.tensor import DataType

#: Files looked for in a version directory when the configuration names none.
_FILENAMES = ("model.pt", "model.pt2")

#: torch's name of an element type -> ours; the others have the same name in numpy.
_DATATYPES = {
    "bfloat16": DataType.BF16,
    **{d.dtype.name: d for d in DataType if d not in (DataType.BYTES, DataType.BF16)},
}

#: Operators of TorchScript that write into a tensor, as `aten::add_(...)`; not the likes of `aten::__and__(...)`.
_WRITES = re.compile(r"aten::\w*[a-z0-9]_\(")


#: torch.export keeps the state of a load in a global variable: one at a time.
_exported_lock = threading.Lock()


class Program(Protocol):
    """A loaded model.

    Attributes:
        kind: what the file is, for the log.
        arguments: names of the tensors it takes, in order.
        writes: whether it may change the tensors it is given.
        signature: what the file says of its tensors; None where it says nothing.
    """

    @property
    def kind(self) -> str: ...
    @property
    def arguments(self) -> Sequence[str]: ...
    @property
    def writes(self) -> bool: ...
    @property
    def signature(self) -> Signature | None: ...

    def call(self, values: Mapping[int, Any]) -> Any:
        """Run it on tensors (or lists of str) by argument position; the result is as the model made it."""
        ...


class ScriptProgram:
    """TorchScript: `forward` of a scripted or traced module."""

    kind = "TorchScript"
    signature: Signature | None = None

    def __init__(self, module: Any, names: Sequence[str]) -> None:
        self._module = module
        schema = [argument for argument in module.forward.schema.arguments if argument.name != "self"]
        self._by_name = len(schema) == 1 and schema[0].type.kind() == "DictType"
        # A single argument that is a dictionary takes the inputs under the names they have in the configuration.
        self.arguments = tuple(names) if self._by_name else tuple(argument.name for argument in schema)
        self.writes = _WRITES.search(str(module.inlined_graph)) is not None

    def call(self, values: Mapping[int, Any]) -> Any:
        """See the port. Missing arguments at the end take their defaults."""
        if self._by_name:
            return self._module({self.arguments[position]: value for position, value in values.items()})
        if set(values) == set(range(len(values))):
            return self._module(*(values[position] for position in range(len(values))))
        return self._module(**{self.arguments[position]: value for position, value in values.items()})


class ExportedProgram:
    """torch.export: runs operator by operator from Python; every argument must be given."""

    kind = "torch.export"

    def __init__(self, torch: Any, program: Any, device: str) -> None:
        self._tree = torch.utils._pytree
        self._spec = program.call_spec.in_spec
        paths, _ = self._tree.tree_flatten_with_path(
            self._tree.tree_unflatten(list(range(self._spec.num_leaves)), self._spec)
        )
        flat_names = [str(name) for name in program.graph_signature.user_inputs]
        self.arguments = tuple(_argument(path, name) for (path, _), name in zip(paths, flat_names, strict=True))
        self.writes = bool(program.graph_signature.user_inputs_to_mutate)
        self.signature = _exported_signature(program, self.arguments, flat_names, self._output_names(program))
        self._module = program.module()
        if device != "cpu":
            self._module = self._module.to(device)

    def call(self, values: Mapping[int, Any]) -> Any:
        """See the port."""
        missing = [name for position, name in enumerate(self.arguments) if position not in values]
        if missing:
            raise BackendError(f"the model needs inputs {missing}, which no request of the batch has")
        flat = [values[position] for position in range(len(self.arguments))]
        positional, named = self._tree.tree_unflatten(flat, self._spec)
        return self._module(*positional, **named)

    def _output_names(self, program: Any) -> Sequence[str] | None:
        """The keys of a dictionary of results, None for another kind of result."""
        spec = program.call_spec.out_spec
        paths, _ = self._tree.tree_flatten_with_path(self._tree.tree_unflatten(list(range(spec.num_leaves)), spec))
        keys = [path[-1].key if path and hasattr(path[-1], "key") else None for path, _ in paths]
        return None if None in keys else [str(key) for key in keys]


def _argument(path: Sequence[Any], flat_name: str) -> str:
    """The key of a keyword argument or of an entry of a dictionary; the parameter's own name otherwise."""
    return str(path[-1].key) if hasattr(path[-1], "key") else flat_name


def _exported_signature(
    program: Any, arguments: Sequence[str], flat_names: Sequence[str], output_names: Sequence[str] | None
) -> Signature | None:
    nodes = {node.name: node for node in program.graph.nodes}
    results = [str(name) for name in program.graph_signature.user_outputs]
    if not all(_is_tensor(nodes.get(name)) for name in (*flat_names, *results)):
        return None
    names = output_names or [f"OUTPUT__{index}" for index in range(len(results))]
    return Signature(
        inputs=tuple(_tensor(name, nodes[flat]) for name, flat in zip(arguments, flat_names, strict=True)),
        outputs=tuple(_tensor(name, nodes[flat]) for name, flat in zip(names, results, strict=True)),
    )


def _is_tensor(node: Any) -> bool:
    return node is not None and hasattr(node.meta.get("val"), "dtype")


def _tensor(name: str, node: Any) -> ModelTensor:
    value = node.meta["val"]
    return ModelTensor(name, datatype_of(value.dtype), tuple(d if isinstance(d, int) else -1 for d in value.shape))


def datatype_of(dtype: Any) -> DataType:
    """The datatype of a `torch.dtype`; raises UnsupportedError for those that have none."""
    name = str(dtype).removeprefix("torch.")
    if name not in _DATATYPES:
        raise UnsupportedError(f"unsupported element type '{dtype}'; expected one of {', '.join(_DATATYPES)}")
    return _DATATYPES[name]


def find_model(directory: Path, filename: str) -> Path:
    """The model file of a version: the one named, else the usual ones."""
    if filename and filename != _FILENAMES[0]:
        return directory / filename
    found = (directory / name for name in _FILENAMES if (directory / name).is_file())
    return next(found, directory / _FILENAMES[0])


def load_program(torch: Any, path: Path, names: Sequence[str], device: str) -> Program:
    """Load a model file. What it is decides what is in it, not its name.

    Args:
        names: the inputs of the configuration.

    Raises:
        UnavailableError: there is no such file.
        InvalidArgumentError: a pickle of tensors or modules, which would need (and run) the code it was made with.
        InternalError: PyTorch cannot load it; the text says why.
    """
    if not path.is_file():
        raise UnavailableError(f"unable to find '{path}'")
    exported = _is_exported(path)
    try:
        if exported:
            with _exported_lock:
                return ExportedProgram(torch, torch.export.load(str(path)), device)
        module = torch.jit.load(str(path), map_location=device)
        module.eval()
        return ScriptProgram(module, names)
    except Exception as error:  # torch raises RuntimeError and whatever its readers raise
        raise InternalError(f"failed to load model file '{path}': {last_line(error)}") from error


def _is_exported(path: Path) -> bool:
    """Whether a file is from torch.export (else it is TorchScript); refuses other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("models/") for name in inner) or "serialized_exported_program.json" in (*inner, *names):
        return True
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return False
    found = "a pickle of torch.save" if any(name.endswith("data.pkl") for name in names) else "neither"
    raise InvalidArgumentError(
        f"expected a TorchScript file or a file of torch.export.save, found {found}: '{path}'; write one with "
        "torch.jit.save(torch.jit.trace(model, inputs), path) or torch.export.save(torch.export.export(model, inputs), "
        "path)"
    )


def last_line(error: BaseException) -> str:
    """What an exception of PyTorch says in the end: in front of it stand traces of generated code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
