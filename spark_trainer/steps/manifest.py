"""From records to a part of the manifest for each shard; `data/joining.py` joins them.

A part is the shard's own marker, so one added video re-reads the records of one shard only.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spark_trainer import steps
from spark_trainer.config import STEP_SECTIONS, Config
from spark_trainer.config.section import ValueType
from spark_trainer.data import corrected as by_hand
from spark_trainer.data import manifest, meta, parts
from spark_trainer.data.corrections import HAND, KINDS, Correction
from spark_trainer.data.files import digest
from spark_trainer.data.labels import kept
from spark_trainer.data.labels.gathering import Label
from spark_trainer.data.labels.given import KINDS as LABELS
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.data.questions import ITEMS as QUESTIONS
from spark_trainer.errors import MachineError, UserError
from spark_trainer.steps.base import word
from spark_trainer.steps.promises import settled, withdraw
from spark_trainer.steps.record import Facts, Record, Status

NAME, VERSION = "manifest", 5
NO_KEYS: Mapping[str, ValueType] = MappingProxyType({})


def corrected(name: str) -> tuple[str, ...]:
    """Return what a step, or the manifest, reads of what people say: corrections and labels."""
    if name == NAME:
        return (*KINDS, *LABELS)
    return steps.load(name).told if word(name) in STEP_SECTIONS else ()


def fingerprints(config: Config, keys: Mapping[str, ValueType] = NO_KEYS) -> dict[str, str]:
    """Return the fingerprint of each step, and of `manifest`, which reads those that report.

    Args:
        config: the configuration.
        keys: that the user's files add to `meta`, and their types.
    """
    found = steps.fingerprints(config)
    read = {name: found[name] for name in steps.reported(config)}
    value = {"step": NAME, "version": VERSION, "upstream": read} | ({"keys": keys} if keys else {})
    return found | {NAME: digest(value)[: steps.FINGERPRINT_DIGITS]}


def part(
    layout: Layout,
    shard: Shard,
    names: Iterable[str],
    fingerprint: str,
    marker: Path,
    keys: Mapping[str, ValueType] = NO_KEYS,
) -> None:
    """Write the entries of one shard, accepted and rejected, sources still open.

    Args:
        layout: where everything lies.
        shard: the videos.
        names: the steps whose records are read.
        fingerprint: names the lines.
        marker: the part to write.
        keys: that the user's files add to `meta`, and their types.

    Raises:
        MachineError: a record, or what it promises, is gone; the next call makes it again.
    """
    withdraw(layout.marker_folder(NAME), shard.bits, fingerprint, keep=marker)
    read, entries, gone = tuple(names), [], []
    for video in shard.videos:
        try:
            records = {name: settled(layout, video, name) for name in read}
            entries.append(
                line(video, records, by_hand.of(layout, video), told(layout, video, keys))
            )
        except MachineError as error:
            gone.append(str(error))
    if gone:
        raise MachineError(f"manifest: {len(gone)} of {len(shard.videos)} videos: {gone[0]}")
    parts.write(marker, entries)


def told(
    layout: Layout,
    video: Video,
    keys: Mapping[str, ValueType],
    find: Callable[[Layout, Video, str], Label | None] = kept.find,
) -> Facts:
    """Return what the user's files tell of a video for `meta`: every key, null without a word.

    Args:
        layout: where everything lies.
        video: the video.
        keys: of what they tell, and their types.
        find: reads a label.

    Raises:
        Broken: the copy of what they tell is gone; the next call writes it again.
    """
    facts, asked = (find(layout, video, kind) for kind in ("meta", QUESTIONS))
    said = (facts.content if facts else {}) | ({QUESTIONS: asked.content} if asked else {})
    return {key: meta.typed(key, said.get(key), kind) for key, kind in keys.items()}


def identity(index_digest: str, fingerprint: str, corrections: str = "", labels: str = "") -> str:
    """Name one manifest: the video folders, every step's fingerprint, corrections and labels."""
    said = [corrections, labels] if labels else filter(None, [corrections])
    return digest([index_digest, fingerprint, *said])[:16]


def line(
    video: Video,
    records: Mapping[str, Record],
    correction: Correction | None = None,
    told: Mapping[str, Any] = NO_KEYS,
) -> manifest.Entry:
    """Return one video's line, or the reason why it has none.

    Of a key that several steps know, the value of the first one that has any stands; what was said
    by hand stands before all.

    Args:
        video: the video.
        records: step -> what it recorded, in pipeline order.
        correction: what was said by hand.
        told: what the user's files tell for `meta`.

    Raises:
        UserError: a step says something else than its section declares.
    """
    said: Facts = {}
    for name, record in records.items():
        if record.status is Status.REJECTED:
            return {"id": video.hash, "step": name, "reason": record.reason, "meta": {}}
        facts = _facts(name, video, record)
        said |= {key: value for key, value in facts.items() if said.get(key) is None}
    if correction and correction.exclude:
        return {"id": video.hash, "step": HAND, "reason": correction.exclude.text, "meta": {}}
    corrected_facts = by_hand.facts(correction) if correction else {}
    said |= {key: meta.typed(key, fact, meta.KEYS[key]) for key, fact in corrected_facts.items()}
    # What nobody said by hand is left out: manifests of earlier versions stay as they were.
    unsaid = {*meta.SOURCES, *(key for key in meta.BY_HAND if said.get(key) is None)}
    return {
        "id": video.hash,
        **{key: said.get(key) for key in manifest.PATHS},
        "meta": {key: said.get(key) for key in meta.KEYS if key not in unsaid} | dict(told),
    }


def _facts(name: str, video: Video, record: Record) -> Facts:
    """Return what a step says of a video, each fact of the type that its section declares.

    Raises:
        UserError: a key is not declared, one that is declared is missing, or has another type.
    """
    facts = steps.load(name).manifest_fields(video, record)
    declared, where = STEP_SECTIONS[word(name)].MANIFEST, f"{name}: manifest_fields"
    if undeclared := facts.keys() - declared.keys() - set(manifest.PATHS):
        raise UserError(f"{where}: {min(undeclared)!r} is not in MANIFEST of its section")
    if missing := declared.keys() - facts.keys():
        raise UserError(f"{where}: no {min(missing)!r}, which MANIFEST of its section declares")
    paths = {key: facts[key] for key in manifest.PATHS if key in facts}
    try:
        return paths | {key: meta.typed(key, facts[key], kind) for key, kind in declared.items()}
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
