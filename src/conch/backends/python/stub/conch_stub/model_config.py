"""`pb_utils.ModelConfig`: what `auto_complete_config` may read and fill in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ModelConfig:
    """A model configuration that a model completes: what config.pbtxt says may be confirmed but not contradicted."""

    def __init__(self, model_config: str) -> None:
        import json

        self._model_config: dict[str, Any] = json.loads(model_config)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it stands."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Raises ValueError where the configuration has a larger one."""
        configured = self._model_config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config function for model "
                f"'{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Raises ValueError where the configuration has another scheduler."""
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config function "
                    f"for model '{self._name}' tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: Mapping[str, Any]) -> None:
        """Add an input: name, data_type, dims and maybe optional. Raises ValueError for others or a contradiction."""
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: Mapping[str, Any]) -> None:
        """Add an output: name, data_type and dims. Raises ValueError for others or a contradiction."""
        self._add("output", output, ("name", "data_type", "dims"))

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Set `decoupled`. Raises ValueError for other properties or a contradiction."""
        for key in transaction_policy_dict:
            if key != "decoupled":
                raise ValueError(
                    f"model transaction property in auto-complete-config function for model '{self._name}' contains "
                    "property other than 'decoupled'."
                )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        if "decoupled" in transaction_policy_dict:
            wanted = transaction_policy_dict["decoupled"]
            if policy.get("decoupled", wanted) != wanted:
                raise ValueError(
                    f"trying to change decoupled property in auto-complete-config for model '{self._name}', which is "
                    f"already set to '{policy['decoupled']}'."
                )
            policy["decoupled"] = wanted

    @property
    def _name(self) -> str:
        return str(self._model_config["name"])

    def _add(self, kind: str, added: Mapping[str, Any], properties: tuple[str, ...]) -> None:
        self._check_properties(kind, added, properties)
        for configured in self._model_config[kind]:
            if configured["name"] == added["name"]:
                self._check_agreement(kind, configured, added)
                configured.update(added)
                return
        self._model_config[kind].append(dict(added))

    def _check_properties(self, kind: str, added: Mapping[str, Any], properties: tuple[str, ...]) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        for key in added:
            if key not in properties:
                listed = ", ".join(f"'{name}'" for name in properties[:-1]) + f" and '{properties[-1]}'"
                raise ValueError(f"{kind} '{added.get('name')}' {where} contains property other than {listed}.")
        if "name" not in added:
            raise ValueError(f"{kind} {where} is missing 'name' property.")
        for key in ("data_type", "dims"):
            if key not in added:
                raise ValueError(f"{kind} '{added['name']}' {where} is missing '{key}' property.")

    def _check_agreement(self, kind: str, configured: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        name = added["name"]
        datatype = configured.get("data_type", "TYPE_INVALID")
        if datatype not in ("TYPE_INVALID", added["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {datatype} for {kind} '{name}', "
                f"model provides {added['data_type']}"
            )
        for key in ("dims", "optional"):
            if key not in added or key not in configured or (key == "dims" and not configured[key]):
                continue
            if configured[key] != added[key]:
                raise ValueError(
                    f"model '{self._name}', tensor '{name}': the model expects {key} {added[key]} but the model "
                    f"configuration specifies {key} {configured[key]}"
                )
