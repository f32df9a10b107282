"""How many threads an engine should use: the cores of this process, divided by the instances that compete for them."""

from __future__ import annotations

import os
from pathlib import Path

from conch.config.schema import ModelConfig

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Cores this process may use: its affinity, and what a container's CPU quota leaves of it (at least 1)."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, -(-int(quota) // int(period))))


def competing_instances(config: ModelConfig) -> int:
    """Instances of the model that compute on the CPU, all groups together."""
    groups = [group for group in config.instance_group if not group.passive]
    on_cpu = [group for group in groups if group.kind != "GPU"] or groups
    return max(1, sum(max(group.count, 1) for group in on_cpu))


def threads_per_instance(config: ModelConfig) -> int:
    """The default number of threads of one instance (at least 1)."""
    return max(1, available_cores() // competing_instances(config))
