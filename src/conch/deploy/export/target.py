"""What a release of Triton loads: the newest ONNX operators and file format, and OpenVINO operators."""

from __future__ import annotations

import re

import msgspec

from conch.errors import InvalidArgumentError

#: Without a target, ONNX files are kept within what this one loads.
DEFAULT_RELEASE = "24.10"


class Target(msgspec.Struct, frozen=True):
    """A release of Triton.

    Attributes:
        release: YY.MM.
        onnxruntime: version of its ONNX Runtime.
        opset: the newest ONNX operators that loads.
        ir: the newest version of the file format that loads.
        openvino_opset: the newest operators its OpenVINO loads.
        named: the user named it; otherwise it is the default, whose limits an explicit option may exceed.
    """

    release: str
    onnxruntime: str
    opset: int
    ir: int
    openvino_opset: int
    named: bool = True


#: First release -> (ONNX Runtime, opset, IR, OpenVINO's opset). Versions are those of `build.py` in
#: triton-inference-server/server; where the month of an update is not certain, the older engine is assumed. What 1.15
#: and newer load, and the operators of OpenVINO 2023.0 and newer, was tried with their wheels.
RELEASES = (
    ("23.01", "1.13", 17, 8, 8),
    ("23.03", "1.14", 18, 8, 8),
    ("23.06", "1.15", 18, 8, 8),
    ("23.12", "1.16", 19, 9, 11),
    ("24.04", "1.17", 20, 9, 13),
    ("24.07", "1.18", 21, 10, 13),
    ("24.10", "1.19", 21, 10, 14),
    ("25.03", "1.20", 21, 10, 16),
    ("25.06", "1.21", 22, 10, 16),
)
_LAST_KNOWN = (25, 12)


def parse_target(text: str) -> Target:
    """The release a target means: "triton:YY.MM", or "" for the default.

    Raises:
        InvalidArgumentError: no such target, or a release whose engines are not known.
    """
    match = re.fullmatch(r"triton:(\d\d)\.(\d\d)", text or f"triton:{DEFAULT_RELEASE}")
    if match is None or not 1 <= int(match[2]) <= 12:
        raise InvalidArgumentError(f"unknown target '{text}'; expected triton:YY.MM, as in triton:{DEFAULT_RELEASE}")
    release = (int(match[1]), int(match[2]))
    first = tuple(map(int, RELEASES[0][0].split(".")))
    if not first <= release <= _LAST_KNOWN:
        known = f"{RELEASES[0][0]} to {'.'.join(map(str, _LAST_KNOWN))}"
        raise InvalidArgumentError(
            f"what Triton {match[1]}.{match[2]} loads is not known; expected a release from {known}"
        )
    row = max((row for row in RELEASES if tuple(map(int, row[0].split("."))) <= release), key=lambda row: row[0])
    return Target(f"{match[1]}.{match[2]}", *row[1:], named=bool(text))


def check_opset(target: Target, opset: int | None) -> None:
    """Refuse ONNX operators that the target would not load.

    Raises:
        InvalidArgumentError: they are newer, or older than ONNX Runtime itself goes.
    """
    if opset is None:
        return
    if opset < 7:
        raise InvalidArgumentError(f"--opset {opset} is too old: ONNX Runtime loads 7 and newer")
    if target.named and opset > target.opset:
        raise InvalidArgumentError(
            f"Triton {target.release} has ONNX Runtime {target.onnxruntime}, which loads operators up to opset "
            f"{target.opset}; got --opset {opset}"
        )
