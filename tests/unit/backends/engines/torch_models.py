"""Modules that TorchScript compiles: their types are read at run time, so annotations are no strings here."""

from typing import Dict, List, Tuple  # noqa: UP035  # what TorchScript's compiler knows

import torch


class Echo(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Negation(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


class SumAndDifference(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        return left + right, left - right


class OfDictionary(torch.nn.Module):
    def forward(self, x: Dict[str, torch.Tensor]) -> torch.Tensor:  # noqa: UP006
        return x["a"] - x["b"]


class ToDictionary(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:  # noqa: UP006
        return {"double": x * 2, "negative": -x}


class ToNumber(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, int]:  # noqa: UP006
        return x, x.size(0)


class Shout(torch.nn.Module):
    def forward(self, x: List[str]) -> List[str]:  # noqa: UP006
        return [text + "!" for text in x]


class AddThree(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(1, 3)


class WriteIntoInput(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)


class Total(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


class IsInference(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, float((x * 1).is_inference()))


class Exported(torch.nn.Module):
    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        more: Dict[str, torch.Tensor],  # noqa: UP006
    ) -> Dict[str, torch.Tensor]:  # noqa: UP006
        return {"hidden": ids * mask + more["bias"], "total": ids.sum(1, keepdim=True)}


class NegationWithEnds(torch.nn.Module):
    def forward(self, x: torch.Tensor, n: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        return -x, n.unsqueeze(1)
