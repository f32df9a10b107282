"""Which files a release of Triton loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conch.deploy.export.target import RELEASES, check_opset, parse_target
from conch.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "onnxruntime", "opset", "ir"),
    [
        ("triton:23.01", "1.13", 17, 8),
        ("triton:23.12", "1.16", 19, 9),
        ("triton:24.01", "1.16", 19, 9),
        ("triton:24.10", "1.19", 21, 10),
        ("triton:25.03", "1.20", 21, 10),
    ],
)
def test_a_release_has_the_limits_of_its_onnx_runtime(text: str, onnxruntime: str, opset: int, ir: int) -> None:
    target = parse_target(text)
    assert (target.onnxruntime, target.opset, target.ir, target.named) == (onnxruntime, opset, ir, True)


def test_without_a_target_24_10_is_the_limit_that_opset_may_exceed() -> None:
    target = parse_target("")
    assert (target.release, target.named) == ("24.10", False)
    check_opset(target, 22)


@pytest.mark.parametrize("text", ["triton", "24.10", "triton:24.13", "triton:2.51", "vllm:24.10", "triton:24.00"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected triton:YY\.MM"):
        parse_target(text)


@pytest.mark.parametrize("text", ["triton:22.12", "triton:31.01"])
def test_a_release_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is not known; expected a release from 23\.01 to 25\.12"):
        parse_target(text)


def test_operators_that_the_target_does_not_load_are_refused() -> None:
    target = parse_target("triton:24.10")
    check_opset(target, 21)
    with pytest.raises(InvalidArgumentError, match=r"24\.10 has ONNX Runtime 1\.19, .* opset 21; got --opset 22"):
        check_opset(target, 22)
    with pytest.raises(InvalidArgumentError, match="too old"):
        check_opset(target, 6)


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[4] / "docs/reference/export.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\d\.\d\d) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.M)
    assert tuple((since, ort, int(opset), int(ir), int(newest)) for since, ort, opset, ir, newest in rows) == RELEASES
