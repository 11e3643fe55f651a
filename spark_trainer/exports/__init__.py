"""Results go out: data sets for other tools, made of the manifest.

`formats` holds a module for each tool, `base` what such a module offers, `dataset` what it writes
of. An export is written beside its folder and takes that folder's place in one step: whatever ends
it midway leaves the old one, or none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from spark_trainer.config import ConfigError, Export
from spark_trainer.data.files import digest, file_digest, read_state, replacing_folder, write_json
from spark_trainer.data.layout import EXPORT_NOTE, Layout
from spark_trainer.errors import MachineError, UserError
from spark_trainer.exports import card, folder, formats
from spark_trainer.exports.base import SEVERAL
from spark_trainer.exports.clips import Clips
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.folder import Note
from spark_trainer.system import extras
from spark_trainer.system.progress import progress

__all__ = ["Made", "check", "identity", "make", "places", "resolved"]

VERSION = 2  # of what the formats write; another number makes every export anew
OF_SOME = ("each_word", "num_frames", "resolution", "shard_mb", "video_token")


@dataclass(frozen=True)
class Made:
    """An export that is there.

    Attributes:
        folder: where it lies.
        note: what it says of itself.
        new: whether it was written, as it was not there before.
    """

    folder: Path
    note: Note
    new: bool

    def __str__(self) -> str:
        counts = ", ".join(f"{split} {count:,}" for split, count in self.note.videos.items())
        return f"{self.folder}: {counts}" + ("" if self.new else " (left as it is)")

    def told(self) -> Iterator[str]:
        """Yield which videos are not in it, by reason."""
        pairs = [(name, reason) for name, reason in self.note.left_out]
        for reason, count in card.reasons(pairs):
            named = [_printable(name) for name, why in pairs if why == reason]
            yield f"left out: {reason}: {count:,} ({', '.join(named[:10])}{_more(named[10:])})"


def resolved(settings: Export, key: str) -> Export:
    """Return settings with the format's own default of `media`, checked.

    Args:
        settings: as they were given.
        key: where they stand, for messages.

    Raises:
        ConfigError: the format has no such option, or can't do what is asked.
    """
    form, to = formats.find(settings.to), settings.to
    for option in OF_SOME:
        if option in settings.model_fields_set and option not in form.options:
            raise ConfigError(
                f"{key}.{option}: expected none with to: {to}, which has no use for it"
            )
    if settings.media is not None and settings.media not in form.media:
        raise ConfigError(
            f"{key}.media: expected {' or '.join(form.media)} with to: {to} (got {settings.media})"
        )
    if settings.text.each is not None and form.texts != SEVERAL:
        raise ConfigError(f"{key}.text.each: expected none with to: {to}, which has one text each")
    return settings.model_copy(update={"media": settings.media or form.media[0]})


def identity(settings: Export, place: Path) -> str:
    """Name what decides the bytes of an export, but for the manifest."""
    given = sorted({"text"} & settings.model_fields_set)
    return digest([VERSION, settings.results(), given, str(place.absolute())])[:16]


def check(settings: Export) -> None:
    """Look whether the packages are here that writing needs.

    Raises:
        UserError: one is missing; the message says how it is installed.
    """
    for package in formats.find(settings.to).packages:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError(
                f"to: {settings.to} needs {package}: {extras.installs(package)}"
            ) from None


def make(settings: Export, layout: Layout, place: Path, key: str) -> Made:
    """Make an export, unless it is there as it would be made.

    Args:
        settings: of `resolved`.
        layout: the store, whose manifest is there.
        place: the folder.
        key: where the settings stand, for messages.

    Raises:
        UserError: there is no manifest, no video of it can be exported, or the folder holds what
            is not ours.
        MachineError: a video, or the manifest, changed meanwhile.
    """
    check(settings)
    place = place.absolute()
    _spelled(place)
    if not layout.manifest.is_file():
        raise UserError(f"no manifest yet: {layout.manifest}; `spark-trainer manifest` builds it")
    manifest = file_digest(layout.manifest)
    named = digest([manifest, identity(settings, place)])
    note = None if place.is_symlink() else Note.find(place)
    if note and note.identity == named and note.whole(place):
        return Made(place, note, new=False)
    folder.check(place)
    clips = Clips(settings, formats.find(settings.to), layout)
    chosen = clips.choose()
    if not chosen.count:
        counted = "; ".join(f"{reason}: {n:,}" for reason, n in card.reasons(chosen.left_out))
        raise UserError(f"{key}: none of the videos can be exported: {counted or 'there are none'}")
    with replacing_folder(place) as root, progress(f"export/{place.name}", chosen.count) as advance:
        data = DataSet(clips, chosen, root, place, advance)
        clips.form.write(data)
        licences = card.write(data, manifest).licences
        counts: dict[str, int] = {split: len(offsets) for split, offsets in chosen.offsets.items()}
        told = {"videos": counts, "left_out": chosen.left_out, "licences": dict(licences)}
        note = Note.of(root, identity=named, **told)
        note.write(root)
        if file_digest(layout.manifest) != manifest:
            raise MachineError(f"{layout.manifest} changed meanwhile; export again")
        write_json(_notes(layout) / f"{digest(str(place))[:16]}.json", {"folder": str(place)})
    return Made(place, note, new=True)


def places(layout: Layout) -> list[Path]:
    """List the folders where exports of a store were made, as far as they are there."""
    notes = sorted(_notes(layout).glob("*.json"))
    found = [Path(read_state(note, dict)["folder"]) for note in notes]
    return [place for place in found if (place / EXPORT_NOTE).is_file()]


def _notes(layout: Layout) -> Path:
    return layout.state / "exports"


def _spelled(place: Path) -> None:
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(place)!r}: expected a folder whose path is UTF-8") from None


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _more(names: list[str]) -> str:
    return f", … {len(names):,} more" if names else ""
