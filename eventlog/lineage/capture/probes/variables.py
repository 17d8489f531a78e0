"""Chooses the environment variables that are logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from eventlog.lineage.credentials import is_secret_name, without_credentials

MAX_VALUE_CHARS = 4096
USUAL = (
    # devices and what talks to them
    *(
        "CUDA_*",
        "NVIDIA_VISIBLE_DEVICES",
        "CUBLAS_*",
        "CUDNN_*",
        "NCCL_*",
        "ROCR_*",
        "HIP_*",
        "HSA_*",
        "RCCL_*",
    ),
    *("GLOO_*", "UCX_*", "FI_*", "NVTE_*", "TPU_*", "NEURON_*", "ZE_*", "ONEAPI_DEVICE_SELECTOR"),
    # libraries
    *(
        "TORCH_*",
        "PYTORCH_*",
        "TORCHINDUCTOR_*",
        "TRITON_*",
        "XLA_*",
        "JAX_*",
        "TF_*",
        "KERAS_*",
        "ACCELERATE_*",
    ),
    *("DEEPSPEED_*", "FSDP_*", "HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_*", "TRANSFORMERS_*"),
    *(
        "TOKENIZERS_PARALLELISM",
        "OMP_*",
        "MKL_*",
        "OPENBLAS_*",
        "BLIS_*",
        "NUMEXPR_*",
        "NUMBA_*",
        "KMP_*",
        "GOMP_*",
    ),
    # Python and its environments
    *("PYTHON*", "VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "LANG", "LC_ALL", "TZ"),
    # ranks and schedulers
    *(
        "WORLD_SIZE",
        "RANK",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "NODE_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
    ),
    *("TORCHELASTIC_*", "OMPI_COMM_WORLD_*", "PMI_*", "SLURM_*", "LSB_*", "PBS_*", "JOB_COMPLETION_INDEX"),
    *("EVLOG_PROJECT", "EVLOG_DIR"),
)


def allowed(environment: Mapping[str, str], patterns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that may be logged, and the names that *patterns* ask for in vain.

    Args:
        patterns: names, with ``*``, besides `USUAL`; one that begins with ``!`` takes away. Never is a
            variable taken whose name looks like that of a secret.
    """
    wanted = [*USUAL, *(one for one in patterns if not one.startswith("!"))]
    unwanted = [one[1:] for one in patterns if one.startswith("!")]
    named = {one for one in patterns if one in environment}
    found, left_out = {}, []
    for name, value in sorted(environment.items()):
        if not _matches(name, wanted) or _matches(name, unwanted):
            continue
        if is_secret_name(name):
            left_out += [name] if name in named else []
            continue
        shown = without_credentials(value) if "://" in value else value
        found[name] = shown if len(shown) <= MAX_VALUE_CHARS else shown[:MAX_VALUE_CHARS] + "…"
    return found, left_out


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
