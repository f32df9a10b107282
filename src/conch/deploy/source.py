"""Find or fetch a checkpoint, and refuse what would run foreign code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from conch.deploy.checkpoint import Checkpoint, needed
from conch.errors import ConchError, InvalidArgumentError, NotFoundError, UnavailableError, UnsupportedError

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")


def fetch(model: str, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> Checkpoint:
    """The checkpoint `model` names: a local directory, or a hub id (`owner/name` or `owner/name@revision`).

    Raises:
        NotFoundError: there is no such directory or repository.
        UnavailableError: the hub cannot be reached and the cache does not hold it.
        InvalidArgumentError: it is no checkpoint, its weights are pickled, or it needs code of its own.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        checkpoint = Checkpoint(path=directory.resolve(), source=model)
    elif directory.is_file():
        raise InvalidArgumentError(f"'{model}' is a file; expected the directory of a checkpoint or a hub id")
    elif model.startswith((".", "/", "~")):
        raise NotFoundError(f"there is no checkpoint directory '{model}'")
    else:
        checkpoint = _download(model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    check(checkpoint, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    return checkpoint


def check(checkpoint: Checkpoint, *, allow_pickle: bool, trust_remote_code: bool) -> None:
    """Raise InvalidArgumentError for what is no checkpoint or would run foreign code without leave."""
    if not checkpoint.config:
        adapter = (checkpoint.path / "adapter_config.json").is_file()
        hint = "merge the adapter into its base model first" if adapter else "expected a HuggingFace checkpoint"
        raise InvalidArgumentError(f"'{checkpoint.source}' has no config.json: {hint}")
    if not checkpoint.has_safetensors():
        if not checkpoint.has_pickled_weights():
            raise InvalidArgumentError(f"'{checkpoint.source}' has no weights: expected *.safetensors files")
        if not allow_pickle:
            raise InvalidArgumentError(_pickle_text(checkpoint.source))
    if missing := checkpoint.missing_weights():
        raise InvalidArgumentError(
            f"'{checkpoint.source}' lacks weights that its index names: {', '.join(missing)}; fetch it again"
        )
    if checkpoint.has_custom_code and not trust_remote_code and not _is_native(checkpoint.model_type):
        raise InvalidArgumentError(
            f"'{checkpoint.source}' (model type '{checkpoint.model_type}') needs Python code of its own, which would "
            "run with your rights: read it, then pass --trust-remote-code"
        )


def _pickle_text(source: str) -> str:
    return (
        f"'{source}' has its weights only as pickle files, which can run any code when loaded: convert them "
        "(AutoModel.from_pretrained(...).save_pretrained(...) writes safetensors), pick a revision with safetensors, "
        "or, if you trust the source, pass --allow-pickle"
    )


def _is_native(model_type: str) -> bool:
    from conch.deploy.extras import transformers

    return model_type in transformers().models.auto.configuration_auto.CONFIG_MAPPING_NAMES


def _download(model: str, *, allow_pickle: bool, trust_remote_code: bool) -> Checkpoint:
    """Bring the needed files of a hub repository into the local cache, with progress bars."""
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise InvalidArgumentError(f"'{model}' is neither a directory nor a hub id such as 'owner/name@revision'")
    from conch.deploy.extras import huggingface_hub

    hub = huggingface_hub()
    repo, revision = match["repo"], match["revision"]
    try:
        tag = ""
        allowed: list[str] | None = None
        if not hub.constants.HF_HUB_OFFLINE:
            info = hub.HfApi().model_info(repo, revision=revision)
            tag, revision = info.pipeline_tag or "", info.sha
            files = [Path(each.rfilename) for each in info.siblings or []]
            allowed = [str(path) for path in needed(files, pickle=allow_pickle, code=trust_remote_code)]
            has_safetensors = any(name.endswith(".safetensors") for name in allowed)
            if has_safetensors:
                allowed = [str(path) for path in needed(files, code=trust_remote_code)]
            elif not allow_pickle and any(path.name.startswith("pytorch_model") for path in files):
                raise InvalidArgumentError(_pickle_text(model))
        path = Path(hub.snapshot_download(repo, revision=revision, allow_patterns=allowed))
    except ConchError:
        raise
    except Exception as error:
        raise hub_error(model, error) from error
    return Checkpoint(path=path, source=f"{repo}@{revision}" if revision else repo, pipeline_tag=tag)


def hub_error(model: str, error: Exception) -> ConchError:
    """The hub's errors, told by their names: its exception classes differ between versions."""
    names = {each.__name__ for each in type(error).__mro__}
    if "GatedRepoError" in names:
        return UnsupportedError(
            f"'{model}' is gated: accept its terms on the hub, then log in with 'hf auth login' or set HF_TOKEN"
        )
    if "RevisionNotFoundError" in names:
        repo, _, revision = model.partition("@")
        return NotFoundError(f"the hub has no revision '{revision}' of '{repo}'")
    if names & {"RepositoryNotFoundError", "EntryNotFoundError"} and ("LocalEntryNotFoundError" not in names):
        return NotFoundError(f"there is no model '{model}' on the hub (private ones need HF_TOKEN), nor a directory")
    detail: Any = str(error).strip().splitlines()
    return UnavailableError(
        f"cannot fetch '{model}' from the hub: {type(error).__name__}: {detail[0] if detail else ''}. "
        "Check the network, or pass the directory of a checkpoint"
    )
