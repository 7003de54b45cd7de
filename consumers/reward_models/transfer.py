"""A model file as records that fit the bus, and back: chunks of a version, and their verified whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from onibus.schemas.records import RewardModelChunk

CHUNK_BYTES = 448 * 1024
"""Of data at most: a record stays well under the 512 KiB that a topic takes unless it was set lower."""
CHUNK_OVERHEAD_BYTES = 512
"""More than a chunk takes besides its data and its model's name, which it has twice."""
MOST_BYTES = 28 << 20
"""A version of more is refused."""
MOST_CHUNKS = 2_048
"""And so is one of more chunks."""
MOST_PARTIAL = 3
"""Versions of one model that are put together at a time; with more, the oldest is given up as torn."""


def model_name(spec_name: str, spec_id: bytes) -> str:
    """Name of the reward model of a specification: its name, and its id, so that a changed specification
    has another model and never goes on with the old one's."""
    return f"{spec_name}-{spec_id.hex()}"


def split_model_name(name: str) -> tuple[str, bytes]:
    """Specification name and id of a model's name.

    Raises:
        ValueError: it is no such name.
    """
    spec_name, _, spec_id = name.rpartition("-")
    return spec_name, bytes.fromhex(spec_id)


def chunk_key(chunk: RewardModelChunk) -> bytes:
    """Key on ``reward-models``: compaction keeps the newest version of each chunk number."""
    return f"{chunk.model}/{chunk.chunk}".encode()


def cut(model: str, version: int, data: bytes, largest: int = CHUNK_BYTES) -> list[RewardModelChunk]:
    """The chunks of a file, in order, of at most so many bytes of data."""
    digest = sha256(data).digest()
    pieces = [data[start : start + largest] for start in range(0, len(data), largest)]
    return [
        RewardModelChunk(model, version, number, len(pieces), piece, digest)
        for number, piece in enumerate(pieces)
    ]


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A complete version whose checksum is right."""

    model: str
    version: int
    data: bytes
    sha256: bytes


@dataclass(slots=True)
class _Partial:
    chunks: int
    sha256: bytes
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class Assembler:
    """Puts versions together from chunks in any order; chunks of several versions may interleave.

    Only versions above the newest whole one count. Memory is bounded by :data:`MOST_PARTIAL` versions of
    :data:`MOST_BYTES` per model.

    Attributes:
        torn: versions given up because newer ones came before they were complete. What compaction leaves
            of old versions counts too.
        corrupt: chunks that fit nothing, and versions whose checksum was wrong.
    """

    def __init__(self) -> None:
        self.torn = 0
        self.corrupt = 0
        self._newest: dict[str, int] = {}
        self._partial: dict[str, dict[int, _Partial]] = {}

    def add(self, chunk: RewardModelChunk) -> WholeFile | None:
        """Take a chunk; the version that it completes, if it does."""
        if chunk.version <= self._newest.get(chunk.model, 0):
            return None
        if not 0 <= chunk.chunk < chunk.chunks <= MOST_CHUNKS:
            self.corrupt += 1
            return None
        versions = self._partial.setdefault(chunk.model, {})
        partial = versions.setdefault(chunk.version, _Partial(chunk.chunks, chunk.sha256))
        if (partial.chunks, partial.sha256) != (chunk.chunks, chunk.sha256):
            self.corrupt += 1  # the same version number written anew: the later writing counts
            partial = versions[chunk.version] = _Partial(chunk.chunks, chunk.sha256)
        partial.size += len(chunk.data) - len(partial.pieces.get(chunk.chunk, b""))
        if partial.size > MOST_BYTES:
            self.corrupt += 1
            del versions[chunk.version]
            return None
        partial.pieces[chunk.chunk] = chunk.data
        if len(partial.pieces) < partial.chunks:
            self._give_up_oldest(versions)
            return None
        return self._whole(chunk.model, chunk.version, versions)

    def _whole(self, model: str, version: int, versions: dict[int, _Partial]) -> WholeFile | None:
        partial = versions.pop(version)
        data = b"".join(partial.pieces[number] for number in range(partial.chunks))
        if sha256(data).digest() != partial.sha256:
            self.corrupt += 1
            return None
        self._newest[model] = version
        for older in [number for number in versions if number < version]:
            del versions[older]
            self.torn += 1
        return WholeFile(model, version, data, partial.sha256)

    def _give_up_oldest(self, versions: dict[int, _Partial]) -> None:
        while len(versions) > MOST_PARTIAL:
            del versions[min(versions)]
            self.torn += 1
