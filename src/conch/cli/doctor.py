"""`conch doctor`: what this machine has, and what is missing for what."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from conch import __version__
from conch.config.serve_options import ServeOptions

_CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the report; returns 1 when something is missing that the server itself needs."""
    found = report()
    print(json.dumps(found, indent=2) if args.json else render(found))
    return 0 if not found["requirements"]["missing"] else 1


def report() -> dict[str, Any]:
    """Everything `conch doctor` knows, as JSON values. `problems` are sentences that end with what to do."""
    found: dict[str, Any] = {
        "conch": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "requirements": _packages(""),
        "extras": {name: _packages(name) for name in _extras()},
        "cpu": {"cores": psutil.cpu_count(), "usable_cores": _usable_cores(), "features": cpu_features()},
        "memory": {
            "total_bytes": psutil.virtual_memory().total,
            "available_bytes": psutil.virtual_memory().available,
        },
        "gpus": gpus(),
        "shared_memory": {"memfd": hasattr(os, "memfd_create"), "dev_shm_bytes": _dev_shm_bytes()},
        "ports": ports(),
    }
    found["problems"] = problems(found)
    return found


def _extras() -> list[str]:
    try:
        listed = importlib.metadata.metadata("conch").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [name for name in listed if name not in ("all", "dev", "test")]


def _packages(extra: str) -> dict[str, Any]:
    """Installed versions of the packages an extra ("" for conch itself) asks for, and those missing."""
    try:
        requirements = importlib.metadata.requires("conch") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    installed: dict[str, str] = {}
    missing: list[str] = []
    for requirement in requirements:
        specifier, _, marker = requirement.partition(";")
        named = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        if (named.group(1) if named else "") != extra or ("sys_platform" in marker and sys.platform == "win32"):
            continue
        matched = re.match(r"[A-Za-z0-9._-]+", specifier.strip())
        name = matched.group(0) if matched else specifier.strip()
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    install = f"pip install 'conch[{extra}]'" if extra else "pip install --upgrade conch"
    return {"installed": installed, "missing": missing, "install": install}


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The CPU's instruction sets that matter for inference; empty where the system does not tell."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return []
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    present = set(flags.group(1).split()) if flags else set()
    return [feature for feature in _CPU_FEATURES if feature in present]


def gpus() -> dict[str, Any]:
    """GPUs by the driver's own tool and by torch; `torch` is None where torch is not installed."""
    by_driver: list[str] = []
    tool = shutil.which("nvidia-smi")
    if tool:
        command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return {"driver": [], "driver_error": str(error), "torch": _torch_devices()}
        by_driver = [line.strip() for line in listed.stdout.splitlines() if line.strip()]
    return {"driver": by_driver, "torch": _torch_devices()}


def _torch_devices() -> dict[str, Any] | None:
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"error": str(error), "devices": []}
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(index) for index in range(count)]
    if torch.backends.mps.is_available():
        names.append("Apple MPS")
    return {"version": torch.__version__, "cuda": torch.version.cuda, "devices": names}


def _dev_shm_bytes() -> int | None:
    """Free bytes of /dev/shm, None where there is none."""
    directory = Path("/dev/shm")
    return shutil.disk_usage(directory).free if directory.is_dir() else None


def is_free(port: int) -> bool:
    """Whether a server could listen on the port, on all addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def ports(check: Callable[[int], bool] = is_free) -> dict[str, dict[str, Any]]:
    """The server's default ports and whether each can be taken."""
    options = ServeOptions()
    wanted = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    return {name: {"port": port, "free": check(port)} for name, port in wanted.items()}


def problems(found: dict[str, Any]) -> list[str]:
    """What is missing or in the way, each with what to do about it."""
    listed = []
    requirements = found["requirements"]
    if requirements["missing"]:
        listed.append(f"missing {', '.join(requirements['missing'])}: {requirements['install']}")
    for extra in found["extras"].values():
        if extra["missing"]:
            listed.append(f"missing {', '.join(extra['missing'])}: {extra['install']}")
    for name, entry in found["ports"].items():
        if not entry["free"]:
            listed.append(f"port {entry['port']} is taken: conch serve --{name}-port=<another port>")
    torch = found["gpus"]["torch"]
    if torch and torch.get("error"):
        listed.append(f"torch cannot be imported ({torch['error']}): reinstall it for this Python")
    elif torch and found["gpus"]["driver"] and not torch["devices"]:
        listed.append("the driver sees GPUs, torch does not: install a CUDA build of torch")
    return listed


def render(found: dict[str, Any]) -> str:
    """The report as text."""
    cpu, memory, shared = found["cpu"], found["memory"], found["shared_memory"]
    torch = found["gpus"]["torch"]
    devices = found["gpus"]["driver"] or (torch or {}).get("devices") or ["none"]
    shm = "no /dev/shm" if shared["dev_shm_bytes"] is None else f"/dev/shm {_gib(shared['dev_shm_bytes'])} free"
    rows = [
        ("conch", found["conch"]),
        ("python", f"{found['python']} ({found['executable']})"),
        ("platform", found["platform"]),
        ("packages", _versions(found["requirements"])),
        *((f"extra {name}", _versions(extra)) for name, extra in found["extras"].items()),
        ("cpu", f"{cpu['usable_cores']} of {cpu['cores']} cores; {' '.join(cpu['features']) or 'features unknown'}"),
        ("memory", f"{_gib(memory['available_bytes'])} of {_gib(memory['total_bytes'])} available"),
        ("gpus", ", ".join(devices)),
        ("shared memory", f"{'memfd' if shared['memfd'] else 'POSIX shared memory'}; {shm}"),
        (
            "ports",
            ", ".join(f"{name} {e['port']} {'free' if e['free'] else 'TAKEN'}" for name, e in found["ports"].items()),
        ),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name.ljust(width)}  {text}" for name, text in rows]
    if found["problems"]:
        lines += ["", *(f"! {problem}" for problem in found["problems"])]
    return "\n".join(lines)


def _versions(packages: dict[str, Any]) -> str:
    parts = [f"{name} {version}" for name, version in packages["installed"].items()]
    parts += [f"{name} MISSING" for name in packages["missing"]]
    return ", ".join(parts)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
