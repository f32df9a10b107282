from __future__ import annotations

import logging
from pathlib import Path

import pytest

from conch.config.schema import VersionPolicy
from conch.config.versions import available_versions, select_versions


def _directories(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir()
    return root


def test_versions_are_numbers_in_numeric_order(tmp_path: Path) -> None:
    assert available_versions(_directories(tmp_path, "10", "2", "0")) == [0, 2, 10]


@pytest.mark.parametrize("name", ["abc", "1x", "-1", "1.5", "+2", " 3", "1_0", "²", "9" * 20])
def test_directory_that_is_no_number_is_ignored_with_a_warning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert available_versions(_directories(tmp_path, "1", name)) == [1]
    assert f"ignore version directory '{name}' which fails to convert to integral number" in caplog.text


def test_leading_zeros_are_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert available_versions(_directories(tmp_path, "003", "3")) == [3]
    assert "ignore version directory '003' which contains leading zeros in its directory name" in caplog.text


def test_files_and_companion_directories_are_passed_over_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _directories(tmp_path, "configs", "warmup", "initial_state", "checkpoint", ".git", "__pycache__", "1")
    (tmp_path / "7").touch()
    with caplog.at_level(logging.WARNING):
        assert available_versions(tmp_path) == [1]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (VersionPolicy(latest=1), [10]),
        (VersionPolicy(latest=2), [3, 10]),
        (VersionPolicy(latest=9), [1, 3, 10]),
        (VersionPolicy(latest=0), []),
        (VersionPolicy(all=True), [1, 3, 10]),
        (VersionPolicy(specific=(10, 1)), [1, 10]),
        (VersionPolicy(specific=()), []),
    ],
)
def test_policy_selects_versions_in_ascending_order(policy: VersionPolicy, expected: list[int]) -> None:
    assert select_versions(policy, [10, 1, 3]) == expected


def test_missing_specific_version_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    assert select_versions(VersionPolicy(specific=(1, 7)), [1], "m") == [1]
    assert "version 7 is specified for model 'm', but the version directory is not present" in caplog.text
