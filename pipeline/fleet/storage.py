"""Files on disks and in object stores, by one set of names: paths, s3://, gs:// and az://."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyarrow import fs

from squeezedrive.engines.errors import ConfigError
from squeezedrive.engines.files import readable
from squeezedrive.pipeline.core.errors import SourceError
from squeezedrive.pipeline.fleet.job import FileRow
from squeezedrive.pipeline.fleet.tables import TABLES, RowMark, read_mark, write_empty, write_row

SCHEMES = ("s3", "gs", "az")
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
VIDEO = "video.mp4"  # what an annotated video is called before it has its place
BLOCK = 8 * 2**20  # bytes


def is_remote(name: str) -> bool:
    """Return whether a file has to be fetched before it can be read."""
    return "://" in name and not name.startswith("file://")


def filesystem_of(name: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URL, and what it calls the file.

    Access to an object store is configured as its own programs have it: AWS_ACCESS_KEY_ID,
    AWS_REGION, AWS_ENDPOINT_URL and the like, GOOGLE_APPLICATION_CREDENTIALS,
    AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY; or the role of the machine.

    Raises
    ------
    ConfigError
        If there is no such kind of file system.
    """
    if not is_remote(name):
        return fs.LocalFileSystem(), os.path.abspath(name.removeprefix("file://"))
    scheme, _, path = name.partition("://")
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise ConfigError(f"{readable(name)}: expected a path or one of {known}")
    return _open_store(scheme, path.partition("/")[0]), path


@lru_cache(maxsize=64)
def _open_store(scheme: str, bucket: str) -> fs.FileSystem:
    environment = os.environ.get
    try:
        if scheme == "s3":
            endpoint = environment("AWS_ENDPOINT_URL_S3") or environment("AWS_ENDPOINT_URL")
            region = environment("AWS_REGION") or environment("AWS_DEFAULT_REGION")
            if region is None and endpoint is None:
                region = fs.resolve_s3_region(bucket)
            return fs.S3FileSystem(
                endpoint_override=endpoint,
                region=region,
                connect_timeout=CONNECT_SECONDS,
                request_timeout=ANSWER_SECONDS,
            )
        if scheme == "gs":
            return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=ANSWER_SECONDS))
        account = environment("AZURE_STORAGE_ACCOUNT")
        if account is None:
            raise ConfigError("az://: expected the account's name in AZURE_STORAGE_ACCOUNT")
        return fs.AzureFileSystem(account, account_key=environment("AZURE_STORAGE_KEY"))
    except (OSError, ImportError) as error:
        raise ConfigError(f"{scheme}://{bucket}: cannot be reached: {error}") from None


def fetch(name: str, size: int, path: Path, given_up: Callable[[], bool]) -> None:
    """Copy a remote file to a local one; stops when `given_up` returns true.

    Raises
    ------
    OSError
        If it cannot be read, or has another size than it is said to have.
    SourceError
        If there is no such file any more.
    """
    filesystem, remote = filesystem_of(name)
    try:
        with filesystem.open_input_stream(remote) as source, path.open("wb") as target:
            while block := source.read(BLOCK):
                target.write(block)
                if given_up():
                    return
    except FileNotFoundError:
        raise SourceError(f"{name}: there is no such file any more") from None
    if path.stat().st_size != size:
        raise OSError(f"{name}: ended after {path.stat().st_size} of {size} bytes")


def read_through(path: Path) -> None:
    """Read a file to its end, to see whether its disk gives all of it.

    Raises
    ------
    OSError
        What the disk answers if it does not.
    """
    with path.open("rb") as file:
        while file.read(BLOCK):
            pass


class ResultFolder:
    """The folder or bucket with the tables of a fleet.

    Parameters
    ----------
    url : str
        A path or URL.

    Raises
    ------
    ConfigError
        If it cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._filesystem, self._root = filesystem_of(self.url)
        self._local = not is_remote(url)

    def put(self, path: Path, name: str) -> None:
        """Move a local file into the folder, where it is whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        target = f"{self._root}/{name}"
        # Workers of a run that was killed may still be writing the same part.
        written = f"{target}.{secrets.token_hex(4)}.tmp" if self._local else target
        if self._local:
            self._filesystem.create_dir(os.path.dirname(target))
        # An object is there when its stream is closed, and only if all of it has arrived.
        stream = self._filesystem.open_output_stream(written)
        with path.open("rb") as source, stream:
            while block := source.read(BLOCK):
                stream.write(block)
        if self._local:
            self._filesystem.move(written, target)

    def commit(self, folder: Path, row: FileRow, header: Mapping[str, Any]) -> None:
        """Put the parts of a file into their places, its row last: with it, the file is done.

        Parameters
        ----------
        folder : Path
            Holds the parts that there are; those of the other tables are empty.
        row : FileRow
            What came of the file.
        header : mapping
            What heads the parts.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        *others, last = TABLES
        for table in others:
            if not (folder / table).exists():
                write_empty(table, folder / table, header)
        write_row(folder / last, row, header)
        if (folder / VIDEO).exists():
            self.put(folder / VIDEO, f"videos/{row.place}.mp4")
        for table in TABLES:
            self.put(folder / table, f"{table}/{row.place}.parquet")

    def parts(self) -> set[str]:
        """Return the places of the files that have a row.

        Raises
        ------
        OSError
            If they cannot be listed.
        """
        root = f"{self._root}/{TABLES[-1]}"
        selector = fs.FileSelector(root, allow_not_found=True, recursive=True)
        return {
            info.path[len(root) + 1 :].removesuffix(".parquet")
            for info in self._filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and info.path.endswith(".parquet")
        }

    def remove(self, place: str) -> None:
        """Remove the rows of a recording or a part from all tables, its row in `files` first.

        Raises
        ------
        OSError
            If they cannot be removed.
        """
        for table in reversed(TABLES):
            with suppress(FileNotFoundError):
                self._filesystem.delete_file(f"{self._root}/{table}/{place}.parquet")

    def mark(self, place: str) -> RowMark | None:
        """Return what the row of a file is marked with, None if it cannot be read."""
        name = f"{self._root}/{TABLES[-1]}/{place}.parquet"
        try:
            with self._filesystem.open_input_file(name) as part:
                return read_mark(part)
        except OSError:
            return None
