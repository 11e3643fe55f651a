"""What frozen encoders made of clips and of texts, each kept under all that decides it.

encoded/<encoders>/             below `output_dir`: the encoders of one model, in one precision
    ab/<video>/<key>.safetensors    what they made of a clip of a video, whatever is said about it
    ab/<video>/<fingerprint>.json   the record of what runs of these settings take of the video
    texts/ab/<key>.safetensors  what they made of a text, whichever videos it is said about
    clips/ab/<key>.safetensors  clips of earlier versions, which are still taken
    sealed/…                    markers: all that these settings take of a shard is here

A key is the digest of everything that a file's content follows from, so that nothing stale can be
read: with another resolution, rate, frame or caption the name is another. A reader that finds a
file damaged, or one gone that a record names, takes back the record and the markers, so that the
next call makes the file again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data import models, tensors
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.files import Broken, digest, file_digest, read_json, replacing
from spark_trainer.data.layout import SEALED, Layout, Video
from spark_trainer.data.sample import REFERENCE, Plan, Unusable, promised
from spark_trainer.errors import ABSENT, MachineError

if TYPE_CHECKING:
    import torch

VERSION = 1  # raised when the same clip and encoders give other tensors
VISION_VERSION = 1  # raised when the same frames and vision tower give other tensors
SOUND_VERSION = 1  # raised when the same sound and encoder give other tensors
NO_WEIGHTS = ("scheduler", "safety_checker", "feature_extractor_safety")
DIGITS = 16
TEXTS, CLIPS = SHARED = ("texts", "clips")  # the folders that are no video's own
READ = ("frames", "pose")  # the steps whose files a clip may come from
HEARD = ("audio",)  # those whose files a window of sound comes from
TEXT, EMPTY = "text", "empty"  # a text's tensor, and that of no text beside it in a batch


def encoders(run: Run, trained: Sequence[str], cache: Path) -> dict[str, Any]:
    """Return what decides an encoder's output beside what it is shown.

    Of a local pipeline every part that encodes counts by its content, of the network in training
    only its shape: weights that are learnt change no latents. A hub id counts as it is.

    Args:
        run: the settings.
        trained: the pipeline's components that are trained, as its family names them.
        cache: where digests of weights are kept.
    """
    folder = Path(run.model_name).expanduser()
    weights: Any = run.model_name
    if (folder / "model_index.json").is_file():
        parts = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        read = [part for part in parts if part.name not in (*trained, *NO_WEIGHTS)]
        shapes = [folder / "model_index.json", *(folder / name / "config.json" for name in trained)]
        weights = {part.name: models.identity(str(part), cache) for part in read} | {
            str(path.relative_to(folder)): file_digest(path) for path in shapes if path.is_file()
        }
    return {"version": VERSION, "weights": weights, "precision": run.mixed_precision}


def vision_tower(run: Run, cache: Path) -> dict[str, Any]:
    """Return what decides a vision tower's output beside the frames that it is shown.

    Of a local checkpoint everything counts by its content, the processor's settings too. The tower
    is held in the precision of the run's frozen weights.

    Args:
        run: the settings.
        cache: where digests of weights are kept.
    """
    held = {"full": "no", "lora": run.mixed_precision, "qlora": "nf4"}[run.finetune]
    return {
        "vision": VISION_VERSION,
        "weights": models.identity(run.model_name, cache),
        "held": held,
        "precision": run.mixed_precision,
        "attention": run.attention,
    }


def sound_encoder(run: Run, cache: Path) -> dict[str, Any]:
    """Return what decides the output of a speech model's encoder beside what it hears.

    Args:
        run: the settings.
        cache: where digests of weights are kept.
    """
    decisive = vision_tower(run, cache)
    del decisive["vision"]
    return decisive | {"sound": SOUND_VERSION}


@dataclass(frozen=True)
class EncodedFiles:
    """What the encoders of one pipeline made, in its folder.

    `step_fingerprints` are those of the steps that made the frames and what lies beside them;
    None where somebody else did, whose files count by their sizes and times instead. `fingerprint`
    names the records of what is taken of each video.
    """

    folder: Path
    step_fingerprints: Mapping[str, str] | None
    fingerprint: str

    def clip(self, samples: VideoFrameDataset, plan: Plan) -> Path:
        """Name the file of a clip, below its video's id, so that it can be traced and removed."""
        beside = {"beside": dict(plan.conditions), "variant": plan.variant}
        name = digest(self._shown(samples, plan) | beside)
        earlier = self._shared(CLIPS, name)
        return earlier if earlier.exists() else self._of_video(plan, name)

    def vision(self, samples: VideoFrameDataset, plan: Plan) -> Path:
        """Name the file of what a vision tower made of a sample's frames, whatever is said."""
        return self._of_video(plan, digest(self._shown(samples, plan) | samples.decoding))

    def sound(self, video: str, wav: Path, start: float, end: float) -> Path:
        """Name the file of what an encoder made of a stretch of a video's sound.

        Args:
            video: its id.
            wav: the file that the sound is read from.
            start: seconds from the file's start.
            end: the same.

        Raises:
            Unusable: there is no such file.
        """
        made: Any = self.step_fingerprints
        key = {"video": video, "start": start, "end": end, "content": made or [_size_and_time(wav)]}
        return self._named(video, digest(key))

    def _of_video(self, plan: Plan, name: str) -> Path:
        return self._named(str(plan.entry["id"]), name)

    def _named(self, video: str, name: str) -> Path:
        return self.folder / video[:2] / video / f"{name}.safetensors"

    def _shown(self, samples: VideoFrameDataset, plan: Plan) -> dict[str, Any]:
        """Return what decides the frames of a sample."""
        key = {
            "video": str(plan.entry["id"]),
            "source": samples.source,
            "times": plan.times,
            "size": plan.size,
            "mirrored": plan.mirrored,
            "content": self._content(samples, plan),
        }
        if samples.jpeg_decoding != "full":
            key["jpeg_decoding"] = samples.jpeg_decoding
        return key

    def _content(self, samples: VideoFrameDataset, plan: Plan) -> Any:
        if self.step_fingerprints is None:
            return [_size_and_time(path) for path in samples.files(plan)]
        read = {"pose"} if set(plan.conditions) - {REFERENCE} else set()
        read |= {"frames"} if samples.source == "frames" or REFERENCE in plan.conditions else set()
        return {name: made for name, made in self.step_fingerprints.items() if name in read}

    def text(self, text: str) -> Path:
        """Name the file of a text, which is no video's own: many may share its words."""
        return self._shared(TEXTS, digest(text))

    def _shared(self, kind: str, name: str) -> Path:
        return self.folder / kind / name[:2] / f"{name}.safetensors"

    def read(self, path: Path, video: str) -> "dict[str, torch.Tensor]":
        """Read what was made of a video, or of a text that is said about it.

        Args:
            path: the file.
            video: its id.

        Raises:
            Unusable: it could not be made.
            MachineError: it is gone or damaged; it is taken back.
            OSError: the machine can't open it.
        """
        try:
            return read(path)
        except ABSENT:
            if not self._promised(path, video):
                text = f"video {video} is not encoded: see logs/encode; there is no {path}"
                raise Unusable(text) from None
            why = f"{path}: the file is gone"
        except Broken as broken:
            why = str(broken)
        self._layout.take_back(self._markers(video))
        self._record(video).unlink(missing_ok=True)
        raise MachineError(f"{why}; the next call makes it again and goes on")

    def _promised(self, path: Path, video: str) -> bool:
        """Tell whether the record of a video names a file, or is itself taken back."""
        try:
            made = read_json(self._record(video), dict)
        except FileNotFoundError:  # earlier versions wrote none
            return self._layout.is_taken_back(self._markers(video))
        return path.relative_to(self.folder).as_posix() in made.get("files", ())

    @property
    def _layout(self) -> Layout:
        return Layout(self.folder.parents[1])

    def _record(self, video: str) -> Path:
        return self.folder / video[:2] / video / f"{self.fingerprint}.json"

    def _markers(self, video: str) -> list[Path]:
        """List the markers of these settings that speak of a video: of a given manifest, all."""
        found = []
        for marker in sorted((self.folder / SEALED).glob(f"*.{self.fingerprint}.json")):
            *bits, _, _, _ = marker.name.split(".")
            if not bits or Video(video, video).bits.startswith(bits[0].removeprefix("b")):
                found.append(marker)
        return found


def _size_and_time(path: Path) -> list[int]:
    with promised(path):
        stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def read(path: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a file.

    Raises:
        Broken: it is damaged.
        OSError: the machine can't open it; of `ABSENT` where it is not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path.open("rb").close()  # of what keeps it shut, safetensors tells no number
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise Broken(path, str(error)) from None


def whole(path: Path) -> bool:
    """Tell whether a file is there and as long as its head says; its tensors are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def write(path: Path, made: "Mapping[str, torch.Tensor]") -> None:
    """Write tensors so that nobody ever meets half of them.

    Raises:
        MachineError, OSError: they can't be written.
    """
    held = {name: tensor.contiguous() for name, tensor in made.items()}
    with replacing(path) as temporary:
        tensors.write(temporary, held, tensors.seal(held))


def fingerprint(
    run: Run, step_fingerprints: Mapping[str, str] | None, references: str | None = None
) -> str:
    """Digest what decides, beside the data, which clips, texts and windows a run takes.

    Args:
        run: the settings.
        step_fingerprints: of the steps that the data comes from.
        references: what stands for the content of `asr.references`, if there are any.
    """
    results = run.results()
    taken: dict[str, Any] = {
        key: results[key] for key in ("clip", "asr", "text", "split") if key in results
    }
    taken |= {"references": references} if references else {}
    return digest(taken | {"versions": step_fingerprints})[:DIGITS]
