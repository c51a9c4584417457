"""What is written down of the frames that something was fitted or measured on."""

from __future__ import annotations

from dataclasses import dataclass

from fathom.data.dataset import Dataset


@dataclass(frozen=True)
class DataRecord:
    """One part of the data.

    Attributes:
        location, kind, part: where they are, in which format, and which part of it.
        frames, scenes: how many.
        fingerprint: of the content of their files.
        facts: what the source says, such as the unit of depth.
    """

    location: str
    kind: str
    part: str
    frames: int
    scenes: int
    fingerprint: str
    facts: dict[str, str]

    @staticmethod
    def of(dataset: Dataset) -> DataRecord:
        """The record of a data set."""
        source = dataset.source
        facts = {key: str(value) for key, value in source.facts.items()}
        scenes = len(dataset.scenes)
        return DataRecord(
            source.location, source.kind, dataset.part, len(dataset), scenes, dataset.fingerprint(), facts
        )
