"""Where a recording lives: a folder (or object-store URI) of Parquet files that are added and never changed.

Names hold cluster, node, backend, window and a digest of the content, so writing the same thing twice adds nothing.
Files of one batch appear together or, when something fails before the end, not at all.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from recorder.errors import NewerSchemaError, OutputError, RecordingError
from recorder.records import SCHEMA_VERSION, SCHEMAS, SECOND, TABLES

_HOUR = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Recording:
    """An existing recording, or the place for one."""

    uri: str
    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def at(cls, uri: str | os.PathLike[str]) -> "Recording":
        """Return the recording at a path or URI (`file://`, `s3://`, `gs://`, `abfs://`), existing or not.

        Raises RecordingError when the URI's scheme is unknown.
        """
        text = os.fspath(uri)
        if "://" not in text:
            return cls(text, pafs.LocalFileSystem(), os.path.abspath(text))  # noqa: PTH100 - resolve() follows links
        try:
            filesystem, root = pafs.FileSystem.from_uri(text)
        except (pa.ArrowInvalid, OSError) as error:
            raise RecordingError(f"{text}: not a place for a recording: {error}") from error
        return cls(text, filesystem, root)

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> "Recording":
        """Return the recording at `uri` after checking that it can be read.

        Raises RecordingError when there is none or it holds no flows and no coverage, NewerSchemaError when a file in it
        was written by a later version.
        """
        recording = cls.at(uri)
        if recording.filesystem.get_file_info(recording.root).type == pafs.FileType.NotFound:
            raise RecordingError(
                f"{recording.uri}: no such recording; `podfence record` and `podfence import` make one"
            )
        files = {table: recording.files(table) for table in TABLES}
        if not any(files.values()):
            raise RecordingError(f"{recording.uri}: holds no recording (no flows/, identities/, … with Parquet files)")
        for paths in files.values():
            for path in paths:
                _check(recording, path)
        if not files["flows"]:
            raise RecordingError(f"{recording.uri}: the recording is empty: it holds no flows")
        return recording

    def files(self, table: str) -> list[str]:
        """Return the paths of a table's files, sorted; hidden and temporary names are left out."""
        selector = pafs.FileSelector(f"{self.root}/{table}", allow_not_found=True, recursive=True)
        return sorted(
            info.path
            for info in self.filesystem.get_file_info(selector)
            if info.type == pafs.FileType.File
            and info.path.endswith(".parquet")
            and not PurePosixPath(info.path).name.startswith((".", "_"))
        )

    def read(self, table: str) -> pa.Table:
        """Return a whole table with the contract's schema; columns that a file lacks are null."""
        target = SCHEMAS[table]
        parts = []
        for path in self.files(table):
            part = pq.read_table(path, filesystem=self.filesystem, partitioning=None)
            arrays = [
                part[name.name].cast(name.type) if name.name in part.column_names else pa.nulls(len(part), name.type)
                for name in target
            ]
            parts.append(pa.Table.from_arrays(arrays, schema=target))
        return pa.concat_tables(parts) if parts else target.empty_table()

    def cluster(self) -> str | None:
        """Return the name of the cluster the recording belongs to; None while nothing is in it."""
        for table in TABLES:
            for path in self.files(table):
                names = pc.unique(pq.read_table(path, columns=["cluster"], filesystem=self.filesystem)["cluster"])
                if len(names):
                    return str(names[0].as_py())
        return None

    def require(self, cluster: str) -> None:
        """Raise RecordingError when the recording belongs to another cluster, NewerSchemaError when to a later version."""
        for table in TABLES:
            for path in self.files(table)[:1]:
                _check(self, path)
        present = self.cluster()
        if present is not None and present != cluster:
            raise RecordingError(
                f"{self.uri}: belongs to cluster {present!r}, not {cluster!r}; one recording = one cluster"
            )

    def require_writable(self) -> None:
        """Raise OutputError unless files can be added; call it before long work."""
        batch = Batch(self)
        try:
            batch.stage("coverage", f"{os.getpid()}.parquet", SCHEMAS["coverage"].empty_table())
            batch.made.clear()  # another recorder may be about to write there
        finally:
            batch.discard()

    @contextmanager
    def adding(self, cluster: str) -> Iterator["Batch"]:
        """Collect tables to add, as `batch` does, to a recording of this cluster; raises as `require` does besides."""
        self.require(cluster)
        with self.batch() as batch:
            yield batch

    @contextmanager
    def batch(self) -> Iterator["Batch"]:
        """Collect tables to add; on leaving the block without an error all of them appear, else none.

        Looks at no file that is there, of which there may be very many: ask `require` once before. Raises OutputError when
        the place cannot be written.
        """
        batch = Batch(self)
        try:
            yield batch
            batch.publish()
        except BaseException:
            batch.discard()
            raise


@dataclass(slots=True)
class Batch:
    """Tables on their way into a recording."""

    recording: Recording
    staged: list[tuple[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def add(self, table: str, data: pa.Table, *, node: str, backend: str) -> int:
        """Stage a table, split by hour for those that have windows; return how many files are new.

        `data` has the contract's schema; rows are written in the order given.
        """
        new = 0
        for folder, window, part in _by_hour(table, data):
            digest = _digest(part)
            cluster = str(part["cluster"][0].as_py())
            name = "-".join(_plain(text) for text in (cluster, node, backend)) + f"-{window}-{digest}.parquet"
            new += self.stage(f"{table}/{folder}" if folder else table, name, part)
        return new

    def stage(self, folder: str, name: str, part: pa.Table) -> int:
        """Write a file under a name that readers pass over; return 0 when the recording or the batch has it already."""
        recording = self.recording
        directory = f"{recording.root}/{folder}"
        final = f"{directory}/{name}"
        temporary = f"{directory}/.{name}.{os.getpid()}"
        if (temporary, final) in self.staged or recording.filesystem.get_file_info(final).type == pafs.FileType.File:
            return 0
        try:
            self._make(directory)
            self.staged.append((temporary, final))
            pq.write_table(part, temporary, filesystem=recording.filesystem, compression="zstd")
            if isinstance(recording.filesystem, pafs.LocalFileSystem):
                _sync(temporary)
        except OSError as error:
            raise OutputError(f"{recording.uri}: cannot be written: {error}") from error
        return 1

    def _make(self, directory: str) -> None:
        """Create a directory and remember which of its parents were missing."""
        missing = []
        path = PurePosixPath(directory)
        while str(path) not in ("/", ".", "") and (
            self.recording.filesystem.get_file_info(str(path)).type == pafs.FileType.NotFound
        ):
            missing.append(str(path))
            path = path.parent
        self.recording.filesystem.create_dir(directory, recursive=True)
        self.made.extend(reversed(missing))

    def publish(self) -> None:
        """Give every staged file its name; coverage comes last, because it vouches for the rest."""
        order = list(TABLES)
        prefix = len(self.recording.root) + 1
        for temporary, final in sorted(self.staged, key=lambda pair: order.index(pair[1][prefix:].split("/", 1)[0])):
            try:
                self.recording.filesystem.move(temporary, final)
                if isinstance(self.recording.filesystem, pafs.LocalFileSystem):
                    _sync(str(PurePosixPath(final).parent))
            except OSError as error:
                raise OutputError(f"{self.recording.uri}: cannot be written: {error}") from error
        self.staged.clear()
        self.made.clear()

    def discard(self) -> None:
        """Remove what was staged, and directories made for it."""
        filesystem = self.recording.filesystem
        for temporary, _ in self.staged:
            if filesystem.get_file_info(temporary).type == pafs.FileType.File:
                filesystem.delete_file(temporary)
        for directory in reversed(self.made):
            selector = pafs.FileSelector(directory, allow_not_found=True)
            if filesystem.get_file_info(directory).type == pafs.FileType.Directory and not filesystem.get_file_info(
                selector
            ):
                filesystem.delete_dir(directory)
        self.staged.clear()
        self.made.clear()


def _check(recording: Recording, path: str) -> None:
    try:
        found = pq.read_schema(path, filesystem=recording.filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        raise RecordingError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    version = (found.metadata or {}).get(b"schema_version", b"")
    if not version.isdigit():
        raise RecordingError(f"{path}: no schema_version in its metadata; not a file of a recording")
    if int(version) > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{path}: schema version {int(version)}, this podfence reads up to {SCHEMA_VERSION}; use a newer podfence"
        )


def _by_hour(table: str, data: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (folder, window text, part): one part per hour of windows, or one part where a table has none."""
    if not len(data):
        return
    if "window_start" not in data.column_names:
        yield "", _stamp(min(_times(data, "start"))), data
        return
    starts = np.asarray(_times(data, "window_start"), dtype=np.int64)
    hours = starts // _HOUR * _HOUR
    for hour in np.unique(hours).tolist():
        chosen = hours == hour
        when = datetime.fromtimestamp(hour / SECOND, UTC)
        folder = f"date={when:%Y-%m-%d}/hour={when:%H}" if table == "flows" else ""
        yield folder, _stamp(int(starts[chosen].min())), data.filter(pa.array(chosen))


def _times(data: pa.Table, column: str) -> list[int]:
    return [time for time in data[column].cast(pa.int64()).to_pylist() if time is not None]


def _stamp(time: int) -> str:
    return f"{datetime.fromtimestamp(time / SECOND, UTC):%Y%m%dT%H%M%SZ}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text)


def _digest(data: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
