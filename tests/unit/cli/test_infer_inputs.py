from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conch.cli.infer_inputs import InputError, InputSpec, make_input


def _make(datatype: str, shape: tuple[int, ...], *texts: str, batches: bool = False, name: str = "x") -> np.ndarray:
    made = make_input(InputSpec(name, datatype, shape), texts, batches)
    assert (made.name, made.datatype) == (name, datatype)
    return made.array


@pytest.mark.parametrize(
    ("shape", "texts", "batches", "expected_shape"),
    [
        ((), ("3",), False, ()),
        ((1,), ("3",), False, (1,)),
        ((1,), ("3",), True, (1, 1)),
        ((-1,), ("3",), False, (1,)),
        ((3,), ("[1, 2, 3]",), True, (1, 3)),
        ((3,), ("1, 2, 3",), True, (1, 3)),
        ((3,), ("1", "2", "3"), True, (1, 3)),
        ((1,), ("1", "2", "3"), True, (3, 1)),
        ((2,), ("[[1, 2], [3, 4], [5, 6]]",), True, (3, 2)),
        ((2,), ("[1, 2]", "[3, 4]"), True, (2, 2)),
        ((-1, 2), ("[1, 2, 3, 4]",), False, (2, 2)),
        ((-1, -1), ("[1, 2, 3]",), False, (1, 3)),
        ((2, 2), ("[1, 2, 3, 4]",), False, (2, 2)),
    ],
)
def test_numbers_are_fitted_to_the_shape(
    shape: tuple[int, ...], texts: tuple[str, ...], batches: bool, expected_shape: tuple[int, ...]
) -> None:
    array = _make("INT64", shape, *texts, batches=batches)
    assert array.dtype == np.int64
    assert array.shape == expected_shape
    assert array.reshape(-1).tolist() == list(range(1, array.size + 1)) or array.size == 1


@pytest.mark.parametrize(
    ("datatype", "text", "expected"),
    [("FP32", "1.5", 1.5), ("FP16", "2", 2.0), ("BOOL", "true", True), ("UINT8", "255", 255), ("FP64", "1e3", 1000.0)],
)
def test_numbers_take_the_datatype(datatype: str, text: str, expected: object) -> None:
    assert _make(datatype, (1,), text).tolist() == [expected]


def test_what_is_no_finite_number_is_given_in_its_usual_spellings() -> None:
    assert np.isnan(_make("FP32", (1,), "nan"))
    assert np.isnan(_make("FP32", (1,), "NaN"))
    assert _make("FP16", (1,), "-inf").tolist() == [-np.inf]
    assert _make("FP64", (2,), "[1, Infinity]").tolist() == [1, np.inf]
    with pytest.raises(InputError, match="expected a number, a JSON array"):
        _make("INT32", (1,), "nan")


def test_npy_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4, dtype=np.float64))
    assert _make("FP32", (-1,), str(tmp_path / "a.npy"), batches=True).tolist() == [[0, 1, 2, 3]]
    assert _make("FP32", (4,), f"@{tmp_path / 'a.npy'}").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("datatype", "shape", "texts", "expected"),
    [
        ("FP32", (3,), ("[1, 2]",), "input 'x' expects shape [3], got [2]"),
        ("FP32", (3,), ("abc",), "input 'x' is FP32 [3]: expected a number, a JSON array or a .npy file, got 'abc'"),
        ("FP32", (3,), ('["a"]',), "is FP32, and '[\"a\"]' holds"),
        ("FP32", (-1,), ("[1, 2]", "[1]"), "the values of input 'x' have different shapes: [2], [1]"),
        ("UINT8", (1,), ("256",), "is UINT8 (0 to 255), and '256' is out of range"),
        ("INT32", (1,), ("1.5",), "is INT32, and '1.5' is not integral"),
        ("FP32", (1,), ("none.npy",), "cannot read 'none.npy'"),
        ("FP32", (-1,), ("[[1], [1, 2]]",), "input 'x'"),
        ("BF16", (1,), ("1",), "is BF16, which the command line cannot write"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    datatype: str, shape: tuple[int, ...], texts: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        _make(datatype, shape, *texts)
    assert expected in str(caught.value)


def test_pickled_npy_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot read"):
        _make("FP32", (1,), str(tmp_path / "a.npy"))


def test_texts_are_utf8_bytes() -> None:
    assert _make("BYTES", (1,), "schön", batches=True).tolist() == [["schön".encode()]]


def test_repeated_text_becomes_an_array() -> None:
    assert _make("BYTES", (-1,), "a", "b", batches=True).tolist() == [[b"a", b"b"]]


def test_repeated_text_of_a_scalar_input_becomes_a_batch() -> None:
    assert _make("BYTES", (1,), "a", "b", batches=True).tolist() == [[b"a"], [b"b"]]


def test_json_array_of_texts_is_read() -> None:
    assert _make("BYTES", (-1,), '["a", "b"]').tolist() == [b"a", b"b"]


def test_bracketed_text_that_is_no_json_stays_a_text() -> None:
    assert _make("BYTES", (1,), "[MASK] is").tolist() == [b"[MASK] is"]


def test_at_sign_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\0\1")
    assert _make("BYTES", (1,), f"@{tmp_path / 'f'}").tolist() == [b"\0\1"]


@pytest.mark.parametrize("name", ["image", "AUDIO_BYTES", "input_video"])
def test_media_inputs_read_the_file_they_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").write_bytes(b"media")
    assert _make("BYTES", (1,), str(tmp_path / "f"), name=name).tolist() == [b"media"]


def test_other_inputs_do_not_read_files_by_accident(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"secret")
    assert _make("BYTES", (1,), str(tmp_path / "f"), name="text").tolist() == [str(tmp_path / "f").encode()]
