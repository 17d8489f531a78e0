"""Spark SQL over a lake, by the table names of `evlog query`. The SQL is Spark's own; nothing is translated.

Spark reads the Parquet files that count, as Delta's log names them here; it needs no jar for Delta. The
workers must see the lake by the same path or URL.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from eventlog.errors import QueryError
from eventlog.lake.delta import Table
from eventlog.lake.errors import LakeError, LakePackageError, lake_errors
from eventlog.lake.place import Place
from eventlog.lake.tables import LAKE_TABLES, PARTITION, LakeTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

INSTALL = "pip install 'evlog[spark]'"
LOCAL = "local[*]"
_PATTERN = re.compile(r"[\[\]{}*?\\]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

VIEWS = {
    "experiments": """
        SELECT r.project, r.run_id AS experiment_id, r.name, r.experiment, r.params AS config, r.status,
               r.note AS notes, r.git_commit, g.git_branch, g.git_dirty, r.started_at AS created_at,
               r.ended_at AS finished_at, r.duration_s
        FROM runs AS r LEFT JOIN (
            SELECT project, run_id, max_by(get_json_object(payload, '$.data.branch'), ts) AS git_branch,
                   max_by(try_cast(get_json_object(payload, '$.data.dirty') AS BOOLEAN), ts) AS git_dirty
            FROM events WHERE type = 'context' AND get_json_object(payload, '$.kind') = 'git'
            GROUP BY project, run_id
        ) AS g ON g.project = r.project AND g.run_id = r.run_id
    """,
    "training_metrics": """
        SELECT project, run_id AS experiment_id, step, key AS metric_name, value AS metric_value,
               ts AS timestamp
        FROM metrics
    """,
    "evaluation_results": """
        SELECT project, run_id AS experiment_id, benchmark, step, metric_name, metric_value, ts AS timestamp
        FROM evaluations LATERAL VIEW explode(metrics) AS metric_name, metric_value
    """,
}
"""The views of `evlog query` with other people's names."""


class SparkLake:
    """A Spark session with a view of each table of one lake, as it was when opened.

    A process has one at a time.
    """

    def __init__(self, session: SparkSession) -> None:
        self.session = session

    @classmethod
    def open(
        cls,
        url: str,
        *,
        master: str | None = None,
        options: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Start Spark, or connect to one, and look what the lake holds.

        Args:
            master: where it runs, ``spark://host:7077`` or ``yarn``; default this machine.
            options: of the lake's store.
            settings: of Spark; ``spark-defaults.conf`` counts too.

        Raises:
            LakePackageError: pyspark or Java is missing.
            LakeError: the lake cannot be read, or Spark does not start.
        """
        with lake_errors(url):
            place = Place(url, options)
            tables = {name: _files(place, name, url) for name in LAKE_TABLES}
        session = _session(master or LOCAL, _settings(place, settings or {}))
        found = cls(session)
        try:
            with _spark_errors():
                for name, files in tables.items():
                    _frame(session, place, LAKE_TABLES[name], files).createOrReplaceTempView(name)
                for name, body in VIEWS.items():
                    session.sql(body).createOrReplaceTempView(name)
        except BaseException:
            found.close()
            raise
        return found

    def query(self, sql: str) -> tuple[list[str], Iterator[tuple[object, ...]]]:
        """Run *sql*; return the columns and the rows, which come as they are wanted. Times are in UTC.

        Raises:
            QueryError: Spark refused it; also from the rows, if it failed in the middle.
        """
        from pyspark.sql.functions import col, unix_micros
        from pyspark.sql.types import TimestampType

        with _spark_errors():
            found = self.session.sql(sql.strip().rstrip(";"))
            columns, kinds = found.columns, [field.dataType for field in found.schema.fields]
            # Python gets times without a zone from Spark; a number of microseconds has no such doubt.
            names = [f"c{index}" for index in range(len(columns))]
            is_time = [isinstance(kind, TimestampType) for kind in kinds]
            numbered = found.toDF(*names).select(
                *(unix_micros(col(n)) if t else col(n) for n, t in zip(names, is_time, strict=True))
            )
        return columns, _rows(numbered, is_time)

    def close(self) -> None:
        """Stop Spark, or leave the cluster."""
        self.session.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def query_spark(
    url: str,
    sql: str,
    *,
    master: str | None = None,
    options: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """Ask the lake at *url* one question; return columns and rows. Spark ends with the last row.

    Raises:
        LakePackageError, LakeError, QueryError: as `SparkLake`.
    """
    lake = SparkLake.open(url, master=master, options=options, settings=settings)
    try:
        columns, rows = lake.query(sql)
    except BaseException:
        lake.close()
        raise
    return columns, _closing(lake, rows)


def _closing(lake: SparkLake, rows: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    with lake:
        yield from rows


def _rows(found: DataFrame, is_time: list[bool]) -> Iterator[tuple[object, ...]]:
    with _spark_errors():
        for row in found.toLocalIterator():
            yield tuple(
                _EPOCH + timedelta(microseconds=cell) if t and cell is not None else _plain(cell)
                for cell, t in zip(row, is_time, strict=True)
            )


def _plain(cell: Any) -> object:  # Any: whatever Spark makes of a value
    from pyspark.sql import Row

    if isinstance(cell, Row):
        return {name: _plain(value) for name, value in cell.asDict().items()}
    if isinstance(cell, dict):
        return {key: _plain(value) for key, value in cell.items()}
    if isinstance(cell, list):
        return [_plain(value) for value in cell]
    return cell


# --- the session ------------------------------------------------------------------------------------


def _session(master: str, settings: Mapping[str, str]) -> SparkSession:
    java = os.environ.get("JAVA_HOME")
    if not (java or shutil.which("java")):
        raise LakePackageError(
            "java", "apt-get install openjdk-17-jre-headless (or any Java from 17 on), or set JAVA_HOME"
        )
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise LakePackageError("pyspark", INSTALL) from error
    # What it refuses is raised; PySpark logs it as JSON besides.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    builder = SparkSession.builder.appName("evlog").master(master)
    for key, value in settings.items():
        builder = builder.config(key, value)
    if _is_here(master):
        # Else Spark asks the name of this machine, which need not lead anywhere.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1").config(
            "spark.driver.bindAddress", "127.0.0.1"
        )
    try:
        return builder.getOrCreate()
    except (PySparkException, OSError, RuntimeError) as error:
        raise LakeError(master, f"Spark does not start: {_first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("py4j"):
            raise LakeError(master, f"Spark does not start: {_first_line(error)}") from error
        raise


def _settings(place: Place, own: Mapping[str, str]) -> dict[str, str]:
    found = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    options = {key.lower().removeprefix("aws_"): value for key, value in place.options.items()}
    endpoint = options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    if place.directory is None and endpoint:
        found["spark.hadoop.fs.s3a.endpoint"] = endpoint
        found["spark.hadoop.fs.s3a.path.style.access"] = "true"
    for ours, theirs in (("access_key_id", "access.key"), ("secret_access_key", "secret.key")):
        if ours in options:
            found[f"spark.hadoop.fs.s3a.{theirs}"] = options[ours]
    return {**found, **own}


def _is_here(master: str) -> bool:
    host = urlsplit(master).hostname
    return master.startswith("local") or host in {"127.0.0.1", "localhost"}


# --- tables -----------------------------------------------------------------------------------------


def _files(place: Place, name: str, url: str) -> list[str]:
    """Return the files of a table that count, as Spark finds them."""
    table = Table.open(place, name)
    if table is None:
        raise LakeError(url, f"there is no table {name}. Publish first: evlog publish {url}")
    # Hadoop takes some characters for patterns; the names of files have none, directories may.
    base = _PATTERN.sub(r"\\\g<0>", _base(place, name))
    return [f"{base}/{file}" for file in sorted(table.files)]


def _base(place: Place, name: str) -> str:
    if place.directory is not None:
        return f"file://{place.directory}/{name}"
    scheme, _, rest = place.uri(name).partition("://")
    return f"{'s3a' if scheme == 's3' else scheme}://{rest}"


def _frame(session: SparkSession, place: Place, table: LakeTable, files: list[str]) -> DataFrame:
    schema = _schema(table)
    if not files:
        cells = (
            f"CAST(NULL AS {field.dataType.simpleString()}) AS `{field.name}`" for field in schema.fields
        )
        return session.sql(f"SELECT {', '.join(cells)} WHERE false")
    reader = session.read.schema(schema).option("basePath", _base(place, table.name))
    # The order that the reference names: Spark puts the partition last.
    return reader.parquet(*files).select(*schema.names)


def _schema(table: LakeTable) -> StructType:
    from pyspark.sql.types import StringType, StructField, StructType

    fields = [StructField(PARTITION, StringType())]
    fields += [StructField(name, _type(kind)) for name, kind in table.columns.items()]
    return StructType(fields)


def _type(kind: str) -> DataType:
    from pyspark.sql import types

    if kind.startswith("MAP("):
        key, _, value = kind[4:-1].partition(", ")
        return types.MapType(_type(key), _type(value))
    simple: dict[str, DataType] = {
        "VARCHAR": types.StringType(),
        "BIGINT": types.LongType(),
        "INTEGER": types.IntegerType(),
        "DOUBLE": types.DoubleType(),
        "BOOLEAN": types.BooleanType(),
        "TIMESTAMPTZ": types.TimestampType(),
    }
    return simple[kind]


# --- errors -----------------------------------------------------------------------------------------


@contextmanager
def _spark_errors() -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        raise QueryError(_without_trace(str(error))) from error
    except Py4JError as error:
        raise QueryError(_first_line(error)) from error


def _without_trace(text: str) -> str:
    lines = text.partition("JVM stacktrace:")[0].splitlines()
    kept = [line for line in lines if line.strip() and not line.lstrip().startswith(("at ", "'", "+-", ":-"))]
    return "\n".join(kept[:12])


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
