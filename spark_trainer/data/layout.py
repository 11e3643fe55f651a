"""Where everything lies below `output_dir`; a step spells the names of its own files.

ab/<sha256>/                  one video: frames/, audio.wav, and a record per step
    audio.<number>.wav        other audio tracks, where they are kept
    caption/<backend>.json    what each captioner wrote
    caption.json              the caption that was selected
    pose/                     skeleton, face, mask and background, frame by frame
encoded/<encoders>/           what frozen encoders made, such as latents; see encoded.py
manifest_v1.jsonl             the usable videos
manifest_v1.features.json     the types of its keys, for Hugging Face datasets
rejected_v1.jsonl             the others, with reasons
report.html                   the page about all of it
forgotten/<sha256>.json       a video that is not to be seen again; see forgotten.py
corrections/<sha256>.json     what was corrected by hand, unless it lies elsewhere; corrections.py
.spark/                       the workflow's own state
    lock                      the build that is at work here
    index.json                cache: path, size, time -> hash
    index/<digest>.json       one state of the video folders
    videos/<sha256>           link to one of the video's sources
    corrected/                corrections as builds read them; see corrected.py
    labels/ labels.json       labels as builds read them; see labels/kept.py
    seen/<ab>.json            hash -> size and time of that source, as indexed
    shards/<bits>.<digest>    the videos of one shard
    settings/<step>.<fp>      the settings behind a fingerprint
    parts/<manifest>.json     the parts that a manifest is joined from
    built.json                what the manifest was built from
    manifests/<sha256>.json   a past manifest: its pieces, and who learnt from it; see past.py
    manifests/pieces/…        lines of past manifests, compressed
    exports/<digest>.json     where an export of this store was made
    report/last.json          what the last report showed
    report/thumbnails.jsonl   the pictures in it
    sealed/<step>/…           markers: this step is done for this shard and fingerprint
    taken_back/<digest>.json  markers that go before the next call plans
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer.data.files import Broken, digest, read_state, sweep, write_json

# What lies in `output_dir` beside the videos' folders and `.spark`.
OURS = (
    *("corrections", "encoded", "forgotten", "manifest_v1.jsonl", "manifest_v1.features.json"),
    *("rejected_v1.jsonl", "report.html"),
)

SEALED = "sealed"  # the folder of the markers
# What tells a run folder, to the search for videos as well; `runs/folder.py` names the rest.
RUN_CONFIG, RUN_FILE, RUN_LINEAGE = "config.yaml", "run.json", "lineage.json"
EXPORT_NOTE = ".spark_export.json"  # what tells the folder of an export


@dataclass(frozen=True)
class Video:
    """One content: its SHA-256, and the folder below `output_dir` of what derives from it.

    `correction` names what a step reads of what was corrected by hand, if anything was; `labels`
    what it reads of the user's files, kind=digest and commas between.
    """

    hash: str
    folder: str
    correction: str = ""
    labels: str = ""

    @property
    def bits(self) -> str:
        """256 binary digits whose first ones name the shard: the hash, or the named folder's.

        One folder always falls into one shard, so that whoever rewrites it finds every marker
        that speaks of it, also where folders are named after files and a file's content changed.
        """
        named = self.hash if self.folder.endswith(self.hash) else digest(self.folder)
        return f"{int(named, 16):0256b}"

    @property
    def plain(self) -> bool:
        """Tell whether nothing is said of it, by hand or in the user's files."""
        return not (self.correction or self.labels)

    @property
    def member(self) -> tuple[str, ...]:
        """Return it as it stands in the list of a shard."""
        plain = (self.hash, self.folder)
        if self.labels:
            return (*plain, self.correction, self.labels)
        return (*plain, self.correction) if self.correction else plain


@dataclass(frozen=True)
class Shard:
    """The videos whose own bits start with `bits`."""

    bits: str
    videos: tuple[Video, ...]

    @cached_property
    def name(self) -> str:
        """`<bits>.<digest of the members>`: another member is another shard name."""
        return f"b{self.bits}.{digest(self.members)[:16]}"

    @cached_property
    def plain(self) -> bool:
        """Tell whether nothing is said of its videos, by hand or in the user's files."""
        return all(video.plain for video in self.videos)

    @property
    def members(self) -> list[tuple[str, ...]]:
        """Return its list."""
        return [video.member for video in self.videos]


@dataclass(frozen=True)
class Layout:
    """Paths below one `output_dir`."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / ".spark"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest_v1.jsonl"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected_v1.jsonl"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def last_report(self) -> Path:
        return self.state / "report" / "last.json"

    @property
    def thumbnails(self) -> Path:
        return self.state / "report" / "thumbnails.jsonl"

    @property
    def forgotten(self) -> Path:
        return self.root / "forgotten"

    @property
    def corrected(self) -> Path:
        return self.state / "corrected"

    @property
    def labels(self) -> Path:
        return self.state / "labels"

    @property
    def labels_cache(self) -> Path:
        return self.state / "labels.json"

    @property
    def index_cache(self) -> Path:
        return self.state / "index.json"

    @property
    def model_digests(self) -> Path:
        return self.state / "models.json"

    def encoded(self, encoders: str) -> Path:
        return self.root / "encoded" / encoders

    def encode_marker(self, encoders: str, shard: str, fingerprint: str) -> Path:
        return self.encoded(encoders) / SEALED / f"{shard}.{fingerprint}.json"

    def index(self, index_digest: str) -> Path:
        return self.state / "index" / f"{index_digest}.json"

    def source(self, video_hash: str) -> Path:
        return self.state / "videos" / video_hash

    def located(self, video_hash: str) -> Path:
        """Return the file that `source` leads to: a link, or a small file that holds the path."""
        link = self.source(video_hash)
        if link.is_symlink():
            return link.parent / link.readlink()
        if link.is_file():
            return Path(link.read_text(encoding="utf-8", errors="surrogateescape"))
        return link

    def seen(self, video_hash: str) -> Path:
        return self.state / "seen" / f"{video_hash[:2]}.json"

    def shard(self, name: str) -> Path:
        return self.state / "shards" / f"{name}.json"

    def settings(self, step: str, fingerprint: str) -> Path:
        return self.state / "settings" / f"{step}.{fingerprint}.json"

    def parts(self, manifest: str) -> Path:
        return self.state / "parts" / f"{manifest}.json"

    @property
    def built(self) -> Path:
        return self.state / "built.json"

    def past(self, sha256: str) -> Path:
        return self.state / "manifests" / f"{sha256}.json"

    def past_piece(self, name: str) -> Path:
        return self.state / "manifests/pieces" / f"{name}.gz"

    def marker_folder(self, step: str) -> Path:
        return self.state / SEALED / step

    def marker(self, step: str, shard: str, fingerprint: str) -> Path:
        return self.marker_folder(step) / f"{shard}.{fingerprint}.jsonl"

    def folder(self, video: Video) -> Path:
        return self.root / video.folder

    def record(self, video: Video, name: str) -> Path:
        return self.folder(video) / f"{name}.json"

    @property
    def taken_back(self) -> Path:
        return self.state / "taken_back"

    def take_back(self, markers: Iterable[Path]) -> None:
        """Note markers that are to go before the next call plans.

        Snakemake ends at once, whatever else is to be done, if a job tried again lacks a marker.
        """
        note, names = self._note(markers)
        write_json(note, names)

    def is_taken_back(self, markers: Iterable[Path]) -> bool:
        """Tell whether `take_back` was called with these markers since this call planned."""
        return self._note(markers)[0].exists()

    def _note(self, markers: Iterable[Path]) -> tuple[Path, list[str]]:
        names = [marker.relative_to(self.root).as_posix() for marker in markers]
        return self.taken_back / f"{digest(names)}.json", names

    def sweep(self) -> None:
        """Remove the markers that were taken back, and what killed processes left beside files."""
        for note in self.taken_back.glob("*.json"):
            for name in read_state(note, list):
                (self.root / name).unlink(missing_ok=True)
            note.unlink()
        lists = ["corrected", "exports", "index", "labels", "parts", "report", "seen"]
        lists += ["shards", "taken_back", "videos"]
        past = self.past_piece("").parent
        # A captioner's lie one folder deeper.
        trees = (self.labels, self.state / "settings", self.marker_folder(""))
        below = [
            folder for tree in trees for folder in (tree, *tree.glob("*/"), *tree.glob("*/*/"))
        ]
        places = (self.root, self.forgotten, self.state, past.parent, past)
        for folder in (*places, *(self.state / name for name in lists), *below):
            sweep(folder)

    def write_shard(self, shard: Shard) -> None:
        """Write the member list of a shard."""
        write_json(self.shard(shard.name), shard.members)

    def read_shard(self, path: Path) -> Shard:
        """Read the member list of a shard.

        Raises:
            Broken: it is not the list that its name stands for; the next call writes it again.
        """
        bits = path.name.split(".")[0].removeprefix("b")
        try:
            members = [Video(*member) for member in read_state(path, list)]
        except TypeError:
            members = []
        shard = Shard(bits, tuple(members))
        if shard.name != path.stem:
            path.unlink(missing_ok=True)
            raise Broken(path, "other videos than those of its name")
        return shard


def frame_name(number: int) -> str:
    """Return the file name of frame `number`, counted from 1."""
    return f"frame_{number:06d}.jpg"
