"""Sets the random number generators of this process, and says so in the run.

Called before a run starts, it is logged in the run that starts next.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import weakref
from collections.abc import Mapping
from types import ModuleType

from eventlog import events as ev
from eventlog.errors import BadValueError
from eventlog.lineage import running
from eventlog.lineage.running import Recorder

MAX_SEED = 2**32 - 1
"""NumPy takes no more."""
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"

_pending: dict[str, object] = {}
_ours: weakref.WeakSet[Recorder] = weakref.WeakSet()
"""Runs whose param ``seed`` comes from here: it follows when they are seeded anew."""


def seed_everything(seed: int, *, deterministic: bool = False, torch: bool | None = None) -> int:
    """Seed Python, NumPy and torch with *seed*, and log it in the run that is active or starts next.

    NumPy is imported if it is installed. The order of sets of texts is not seeded: for that Python reads
    ``PYTHONHASHSEED`` before it starts; what it is, is logged.

    Args:
        seed: from 0 to 2**32 - 1.
        deterministic: have torch use deterministic algorithms only, which are slower, and raise where there
            is none.
        torch: None seeds torch if the program has imported it, True imports it, False leaves it alone.

    Returns:
        *seed*, for ``Generator`` and whatever else wants one.

    Raises:
        BadValueError: *seed* is no whole number from 0 to 2**32 - 1.
        ImportError: *torch*, and there is none.
    """
    global _pending
    facts = set_seeds(seed, deterministic=deterministic, torch=torch)
    run = running.innermost()
    if run is None:
        _pending = facts
    else:
        log_seeds(run, facts)
    return int(seed)


def set_seeds(seed: int, *, deterministic: bool = False, torch: bool | None = None) -> dict[str, object]:
    """Do it, without logging; return the data of the context ``seeds``."""
    is_number = hasattr(seed, "__index__") and not isinstance(seed, bool)
    if not is_number or not 0 <= int(seed) <= MAX_SEED:
        raise BadValueError("seed", type(seed).__name__, f"a seed is a whole number from 0 to {MAX_SEED}")
    seed = int(seed)
    random.seed(seed)
    facts: dict[str, object] = {"seed": seed, "python": True, "numpy": False, "torch": False}
    if importlib.util.find_spec("numpy") is not None:
        import numpy

        numpy.random.seed(seed)
        facts["numpy"] = True
    if torch or (torch is None and "torch" in sys.modules):
        _seed_torch(seed, importlib.import_module("torch"), deterministic=deterministic)
        facts["torch"] = True
    facts["deterministic"] = deterministic and bool(facts["torch"])
    facts["python_hash_seed"] = os.environ.get("PYTHONHASHSEED")
    return facts


def _seed_torch(seed: int, torch: ModuleType, *, deterministic: bool) -> None:
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)  # kept for later where CUDA has not begun, nothing where there is none
    if deterministic:
        # cuBLAS reads it when it begins; without it torch raises in every product of matrices.
        os.environ.setdefault(CUBLAS, ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def log_seeds(run: Recorder, facts: Mapping[str, object]) -> None:
    """Log what `set_seeds` returned; also as the param ``seed``, unless somebody else has logged one."""
    run.add(ev.Context(kind="seeds", data=dict(facts)))
    if run in _ours or not _has_seed(run):
        _ours.add(run)
        run.add(ev.Params(data={"seed": facts["seed"]}))


def log_pending(run: Recorder) -> None:
    """Log in *run* what was seeded before it began, once."""
    global _pending
    facts, _pending = _pending, {}
    if facts:
        log_seeds(run, facts)


def _has_seed(run: Recorder) -> bool:
    from eventlog.replay import outline

    # Params are in the file when their call returns; an earlier process may have logged them, too.
    return "seed" in outline(run.path).params
