"""What models cost: the table ``[models]`` of ``evlog.toml``.

[models."gpt-x"]
input_per_million = 0.15
output_per_million = 0.60
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from eventlog.configuration import ConfigurationError, find_configuration
from eventlog.evaluation.results import Price


def price_of(model: str, *, root: Path | None = None) -> Price | None:
    """Return the price of *model*, or None if nobody wrote one down.

    Raises:
        ConfigurationError: the file cannot be read, or holds no price there.
    """
    path = find_configuration(root)
    if path is None:
        return None
    try:
        models = tomllib.loads(path.read_text(encoding="utf-8")).get("models", {})
        found = models.get(model) if isinstance(models, dict) else None
        return None if found is None else msgspec.convert(found, Price)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        where = f'[models."{model}"] ' if isinstance(error, msgspec.ValidationError) else ""
        raise ConfigurationError(path, f"{where}{error}") from error
