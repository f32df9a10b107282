"""The pipeline of a checkpoint without its weights, and what travels from its preprocess to its postprocess.

`context` is the JSON of what `preprocess` returned; of a tensor that an own tensor of the model carries it holds the
name, the shape and the datatype.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from hf_prompts import chat_class
from hf_resize import complete_processor
from hf_serving import Settings, Spectrograms
from PIL import Image
from transformers import pipelines
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import ModelOutput

LOADERS = {
    "tokenizer": transformers.AutoTokenizer,
    "feature_extractor": transformers.AutoFeatureExtractor,
    "image_processor": transformers.AutoImageProcessor,
    "video_processor": transformers.AutoVideoProcessor,
    "processor": transformers.AutoProcessor,
}


def load_shell(settings: Settings) -> Any:
    """The pipeline around a model that has a configuration and no weights: its tensors are on torch's meta device."""
    entry = pipelines.check_task(settings.task)[1]
    module, _, name = entry["impl"].rpartition(".") if isinstance(entry["impl"], str) else ("", "", "")
    pipeline_class = getattr(__import__(module, fromlist=[name]), name) if module else entry["impl"]
    options = {"trust_remote_code": settings.values.get("trust_remote_code") == "true"}
    config = transformers.AutoConfig.from_pretrained(settings.checkpoint, **options)
    components = {}
    for component, loader in LOADERS.items():
        needed = getattr(pipeline_class, f"_load_{component}")
        if needed is False:
            continue
        try:
            components[component] = loader.from_pretrained(settings.checkpoint, **options)
        except Exception:
            if needed:
                raise
    complete_processor(components.get("image_processor"))
    if settings.task == "text-to-audio":
        components["vocoder"] = Spectrograms()
    model = hollow_model(config, entry["pt"], options)
    if Path(settings.checkpoint, "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(settings.checkpoint)
    return pipeline_class(model=model, task=settings.task, device=torch.device("meta"), **components)


def hollow_model(config: Any, auto_classes: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The model of a configuration without weights."""
    named = getattr(transformers, (config.architectures or [""])[0], None)
    with torch.device("meta"):
        if named is not None:
            return named._from_config(config).eval()
        for auto in auto_classes:
            if type(config) in auto._model_mapping or type(config).__name__ in getattr(config, "auto_map", {}):
                return auto.from_config(config, **options).eval()
    raise ValueError(f"no model of transformers has the configuration {type(config).__name__}")


def split_tensors(value: Any, names: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors called `names` (without their batch dimension of 1) of what `preprocess` returned, and `context`."""
    tensors: dict[str, torch.Tensor] = {}

    def encode(value: Any, name: str = "") -> Any:
        if isinstance(value, torch.Tensor):
            described = {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            if name in names:
                tensors[name] = value[0]
                return {"@": "own", "name": name, **described}
            exact = value.float() if value.dtype == torch.bfloat16 else value  # numpy knows no bfloat16
            return {"@": "tensor", "array": pack(exact.cpu().numpy()), **described}
        if isinstance(value, np.ndarray):
            return {"@": "array", "array": pack(value)}
        if isinstance(value, Image.Image):
            buffer = io.BytesIO()
            value.save(buffer, format="PNG")
            return {"@": "image", "png": base64.b64encode(buffer.getvalue()).decode()}
        if isinstance(value, Mapping):
            kind = "features" if isinstance(value, (BatchFeature, transformers.BatchEncoding)) else "dict"
            return {"@": kind, "items": [[key, encode(each, key)] for key, each in value.items()]}
        if type(value).__name__ == "DataFrame":
            return {"@": "table", "columns": value.to_dict("list")}
        if type(value).__name__ == "Chat":
            return {"@": "chat", "messages": encode(value.messages)}
        if isinstance(value, (list, tuple)):
            return {"@": type(value).__name__, "items": [encode(each) for each in value]}
        return value.item() if isinstance(value, np.generic) else value

    return tensors, json.dumps(encode(value))


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array of numbers for JSON."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"data": data, "dtype": str(array.dtype), "shape": list(array.shape)}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"])
    return flat.reshape(packed["shape"]).copy()


def pandas_table(columns: dict[str, list[str]]) -> Any:
    """What pipelines take a table as."""
    import pandas  # needed for tables alone

    return pandas.DataFrame(columns)


def join_tensors(pipe: Any, context: str, tensors: Mapping[str, np.ndarray]) -> Any:
    """What `preprocess` of the pipeline returned.

    A tensor whose values are neither in `context` nor in `tensors` has a shape alone. Those in `tensors` may be padded
    at the end.
    """

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(each) for each in value]
        if not isinstance(value, dict):
            return value
        return decoders[value["@"]](value)

    def own(value: dict[str, Any]) -> torch.Tensor:
        dtype = getattr(torch, value["dtype"])
        if value["name"] in tensors:
            array = tensors[value["name"]][tuple(map(slice, value["shape"][1:]))]
            return torch.from_numpy(np.array(array))[None].to(dtype)
        return torch.empty(value["shape"], dtype=dtype, device="meta")

    def tensor(value: dict[str, Any]) -> torch.Tensor:
        return torch.from_numpy(unpack(value["array"])).to(getattr(torch, value["dtype"]))

    decoders: dict[str, Callable[[dict[str, Any]], Any]] = {
        "own": own,
        "tensor": tensor,
        "array": lambda value: unpack(value["array"]),
        "image": lambda value: Image.open(io.BytesIO(base64.b64decode(value["png"]))),
        "features": lambda value: BatchFeature({key: decode(each) for key, each in value["items"]}),
        "dict": lambda value: {key: decode(each) for key, each in value["items"]},
        "chat": lambda value: chat_class(pipe)(decode(value["messages"])),
        "table": lambda value: pandas_table(value["columns"]),
        "list": lambda value: decode(value["items"]),
        "tuple": lambda value: tuple(decode(value["items"])),
    }
    return decode(json.loads(context))


def output_class(fields: list[str]) -> type[ModelOutput]:
    """A class of model outputs with these fields, in this order."""
    return make_dataclass("NetworkOutput", [(name, Any, field(default=None)) for name in fields], bases=(ModelOutput,))
