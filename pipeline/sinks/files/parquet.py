"""Write detections as a Parquet table, for pandas, Polars, DuckDB and Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezedrive.engines.errors import PackageMissing
from squeezedrive.engines.files import readable, replacing
from squeezedrive.pipeline.core.errors import SinkError
from squeezedrive.pipeline.core.sink import FrameResult, Sink
from squeezedrive.pipeline.sinks.files.csv import COLUMNS, table_rows
from squeezedrive.pipeline.sinks.files.whole import check_regular
from squeezedrive.pipeline.sinks.spec import SinkContext, SinkSpec

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 20_000  # of a group, which are kept in memory


class ParquetSink(Sink):
    """One row per detection, in the columns of `CsvSink`.

    ``source`` and ``class`` are dictionaries of strings, ``frame`` is int64, ``id`` int32; the
    others are doubles. What is empty in CSV is null. The file takes its place when it is finished;
    until then it lies beside it, under the same name and ".tmp", and nothing can read it.

    Parameters
    ----------
    path : str or Path
        File to write, replaced if it exists.
    source : str
        Name of the source.
    class_names : sequence of str
        Names in the order of the class indices.
    header : callable, optional
        Returns what the file is about, as for `JsonlSink`; the file has it as JSON in its metadata,
        under "squeezedrive".

    Raises
    ------
    SinkError
        From `write` and `close`, if the file cannot be created or written; what was there stays.
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        class_names: Sequence[str],
        header: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.name = str(path)
        self._path = Path(path)
        # Arrow takes only UTF-8.
        self._source = readable(source)
        self._class_names = [readable(name) for name in class_names]
        self._header = header
        self._rows: list[tuple[Any, ...]] = []
        self._writer: pq.ParquetWriter | None = None
        self._place = ExitStack()  # puts the file there, or drops it

    def write(self, result: FrameResult) -> None:
        """Add the rows of one frame."""
        if self._writer is None:
            import pyarrow.parquet as pq

            with self._dropped_on_error():
                temporary = self._place.enter_context(replacing(self._path))
                schema = with_header(detection_schema(), self._header())
                self._writer = pq.ParquetWriter(temporary, schema)
        self._rows += table_rows(result, self._source, self._class_names)
        if len(self._rows) >= ROWS:
            with self._dropped_on_error():
                self._write_group()

    def close(self) -> None:
        """Write the last rows and put the file in its place."""
        if self._writer is None:
            return
        with self._dropped_on_error():
            self._write_group()
            self._writer.close()
            self._writer = None
            self._place.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._rows and self._writer is not None:
            columns = dict(zip(COLUMNS, zip(*self._rows, strict=True), strict=True))
            self._writer.write_table(pa.table(columns, schema=self._writer.schema))
            self._rows = []

    @contextmanager
    def _dropped_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            writer, self._writer = self._writer, None
            try:
                if writer is not None:
                    writer.close()
            except OSError:
                pass  # for the same reason
            finally:
                self._place.__exit__(type(err), err, err.__traceback__)
            if isinstance(err, FileNotFoundError):
                reason = f"the folder {self._path.parent} does not exist"
            else:
                reason = f"cannot write: {err.strerror or err}"
            raise SinkError(f"{self.name}: {reason}") from err


def with_header(schema: pa.Schema, header: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of a file that says what it is about, see `ParquetSink`."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False)
    return schema.with_metadata({"squeezedrive": text})


def detection_schema() -> pa.Schema:
    """Return the types of `COLUMNS`."""
    import pyarrow as pa

    text, number = pa.dictionary(pa.int32(), pa.string()), pa.float64()
    types = {"source": text, "class": text, "frame": pa.int64(), "id": pa.int32()}
    return pa.schema([(column, types.get(column, number)) for column in COLUMNS])


def _check(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise PackageMissing(
            f"--parquet: needs pyarrow: pip install 'squeezedrive[parquet]', or in a checkout"
            f" pip install -e '.[parquet]' ({error})"
        ) from None
    check_regular(path)


def _open(context: SinkContext) -> Sink:
    return ParquetSink(context.path, context.source.info.name, context.class_names, context.header)


SPEC = SinkSpec(
    option="parquet",
    metavar="OUT.parquet",
    help="detections, a row each, in Parquet; written at the end",
    open=_open,
    check=_check,
)
