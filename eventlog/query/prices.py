"""What an hour of a device costs: the table ``[prices]`` of ``evlog.toml``, applied when a question is asked.

[prices]
currency = "EUR"
host = 0.40                # an hour of a machine without a GPU

[prices.devices]           # an hour of one device, by its name or a pattern; the first that fits counts
"NVIDIA A100*" = 2.10
"*" = 0.90
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec

from eventlog.configuration import read_table
from eventlog.devices import HOST

Price = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of an hour of each device.

    Attributes:
        host: of a machine without a GPU.
        devices: by name; ``*`` stands for any text, ``?`` for a character. Case does not matter.
    """

    currency: str | None = None
    host: Price | None = None
    devices: dict[str, Price] = {}

    def cost_sql(self) -> str:
        """Return SQL for the cost of a row with a map ``devices`` of hours; NULL if a price is not known."""
        if self.host is None and not self.devices:
            return "NULL::DOUBLE"
        cases = "" if self.host is None else f" WHEN device.key = {_quoted(HOST)} THEN {_number(self.host)}"
        for name, price in self.devices.items():
            is_it = f"lower(device.key) GLOB {_quoted(name.lower())}"
            cases += f" WHEN device.key <> {_quoted(HOST)} AND {is_it} THEN {_number(price)}"
        costs = f"[device.value * CASE{cases} END FOR device IN map_entries(devices)]"
        # Every cost or none: half a sum would look like a whole one.
        return f"CASE WHEN list_count({costs}) = cardinality(devices) THEN list_sum({costs}) END"

    def currency_sql(self) -> str:
        """Return SQL for the currency."""
        return "NULL::VARCHAR" if self.currency is None else _quoted(self.currency)


def read_prices(root: Path) -> Prices:
    """Return the prices that count for the runs below *root*.

    Raises:
        ConfigurationError: the file cannot be read, or says something else than prices.
    """
    return read_table("prices", Prices, root=root)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _number(price: float) -> str:
    return f"'{price!r}'::DOUBLE"
