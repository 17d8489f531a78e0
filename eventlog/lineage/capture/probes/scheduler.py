"""Finds out which job of a cluster this is, from what the scheduler has put into the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from eventlog.lineage.capture.child import Order, Say

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# The name in the log, and the variables that may hold it, the first one first.
SCHEDULERS: dict[str, dict[str, tuple[str, ...]]] = {
    "slurm": {
        "job_id": ("SLURM_JOB_ID", "SLURM_JOBID"),
        "job_name": ("SLURM_JOB_NAME",),
        "array_job_id": ("SLURM_ARRAY_JOB_ID",),
        "array_task_id": ("SLURM_ARRAY_TASK_ID",),
        "step_id": ("SLURM_STEP_ID", "SLURM_STEPID"),
        "cluster": ("SLURM_CLUSTER_NAME",),
        "queue": ("SLURM_JOB_PARTITION",),
        "account": ("SLURM_JOB_ACCOUNT",),
        "nodes": ("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
        "node_count": ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"),
        "task_count": ("SLURM_NTASKS",),
        "restart_count": ("SLURM_RESTART_COUNT",),
        "submit_host": ("SLURM_SUBMIT_HOST",),
        "submit_directory": ("SLURM_SUBMIT_DIR",),
    },
    "lsf": {
        "job_id": ("LSB_JOBID",),
        "job_name": ("LSB_JOBNAME",),
        "array_task_id": ("LSB_JOBINDEX",),
        "queue": ("LSB_QUEUE",),
        "nodes": ("LSB_MCPU_HOSTS", "LSB_HOSTS"),
        "submit_host": ("LSB_SUB_HOST",),
        "submit_directory": ("LS_SUBCWD",),
    },
    "pbs": {
        "job_id": ("PBS_JOBID",),
        "job_name": ("PBS_JOBNAME",),
        "array_task_id": ("PBS_ARRAY_INDEX", "PBS_ARRAYID"),
        "queue": ("PBS_QUEUE", "PBS_O_QUEUE"),
        "submit_host": ("PBS_O_HOST",),
        "submit_directory": ("PBS_O_WORKDIR",),
    },
    "kubernetes": {
        "job_id": ("POD_UID", "POD_NAME", "MY_POD_NAME", "HOSTNAME"),
        "job_name": ("JOB_NAME",),
        "pod": ("POD_NAME", "MY_POD_NAME", "HOSTNAME"),
        "namespace": ("POD_NAMESPACE", "MY_POD_NAMESPACE"),
        "node": ("NODE_NAME", "MY_NODE_NAME"),
        "array_task_id": ("JOB_COMPLETION_INDEX",),
    },
}


def probe(order: Order, say: Say) -> None:  # noqa: ARG001 - the shape of a probe
    """Find out all of the ``scheduler`` context; say nothing if there is no scheduler."""
    found = scheduler(os.environ)
    if found:
        say.context("scheduler", found)


def scheduler(environment: Mapping[str, str], *, namespace: Path = NAMESPACE) -> dict[str, object]:
    """Return the job that *environment* names. A batch system inside of Kubernetes counts before that."""
    for kind, names in SCHEDULERS.items():
        is_here = (
            "KUBERNETES_SERVICE_HOST" in environment
            if kind == "kubernetes"
            else _first(environment, names["job_id"])
        )
        if not is_here:
            continue
        found: dict[str, object] = {"kind": kind}
        for name, variables in names.items():
            value = _first(environment, variables)
            # LSF says 0 for a job that is no part of an array.
            if value and not (name == "array_task_id" and kind == "lsf" and value == "0"):
                found[name] = value
        if kind == "kubernetes" and "namespace" not in found and namespace.is_file():
            found["namespace"] = namespace.read_text(encoding="utf-8").strip()
        return found
    return {}


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")
