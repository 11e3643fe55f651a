"""What a newcomer gets wrong, and what is said: a line or two, the key or file, and no trace."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from spark_trainer.system import gpu
from tests.wheel import ROOT, User

BEGUN = "video_dir: videos\ntranscript: {enabled: false}\ncaption: {enabled: false}\n"
TRAINED = f"train: {{model_name: {ROOT}/config/demo/blip-small, text: {{answer: '{{id}}'}}}}\n"
GIVEN = BEGUN.replace("caption: {enabled: false}", "captioner_backend: sidecar")
HEARD = BEGUN.replace("transcript: {enabled: false}", "transcript: {backend: faster-whisper}")
MOST = 3  # lines

# What is typed, what config/config.yaml holds, and what the last line says.
AT_ONCE: dict[str, tuple[str, str | None, str]] = {
    "a key": (
        "manifest",
        BEGUN + "ouput_dir: x\n",
        "ouput_dir: unknown key; did you mean output_dir?",
    ),
    "a key below another": (
        "validate",
        BEGUN + "train: {learning_rat: 1.0}\n",
        "train.learning_rat: unknown key; did you mean learning_rate?",
    ),
    "a command": ("manfest", BEGUN, "no command 'manfest'; did you mean manifest?"),
    "a target": ("train nope", BEGUN, "no target 'nope'; expected one of: all, export, manifest"),
    "a flag": (
        "export --form llava",
        BEGUN,
        "unrecognized arguments: --form; see spark-trainer export",
    ),
    "a value": (
        "manifest",
        BEGUN + "frame_rate: fast\n",
        "frame_rate: expected a number (got 'fast')",
    ),
    "a tab": (
        "manifest",
        BEGUN + "frames:\n\tframe_rate: 2\n",
        "config/config.yaml: expected YAML (",
    ),
    "a key twice": (
        "manifest",
        BEGUN + "frame_rate: 2\nframe_rate: 1\n",
        "the key 'frame_rate' stands",
    ),
    "a backend": (
        "manifest",
        BEGUN + "captioner_backend: blipp\n",
        "captioner_backend: expected 'blip', 'blip2',",
    ),
    "another folder": (
        "manifest",
        None,
        "config/config.yaml: no such file in this folder; `spark-t",
    ),
    "a folder for a file": (
        "manifest --config config",
        BEGUN,
        "config: expected a YAML file, not a f",
    ),
    "--set without a value": (
        "manifest --set frame_rate",
        BEGUN,
        "--set frame_rate: expected KEY=VALU",
    ),
    "--set of no key": (
        "manifest --set framerate=2",
        BEGUN,
        "framerate: unknown key; did you mean fra",
    ),
    "a format": (
        "export --to lava --out x",
        BEGUN,
        "argument --to: invalid choice: 'lava' (choose from",
    ),
    "an export too early": (
        "export --to llava --out x",
        BEGUN,
        "no manifest yet: data/processed/manifest_v1.jsonl; `spark-trainer manifest` builds it",
    ),
    "a page too early": ("report", BEGUN, "`spark-trainer manifest` builds it"),
    "a correction too early": (
        "correct clip.mp4 --caption x",
        BEGUN,
        "no video was built yet: `spark-trainer manifest` does that",
    ),
    "a run": ("runs diff a b", BEGUN, "'a' is no run; expected one of: none is there"),
    "init twice": ("init", BEGUN, "config/config.yaml is there already; nothing was written"),
    "no folder of videos": (
        "validate",
        BEGUN.replace("videos", "vidoes"),
        "video_dir: no such folder: vidoes",
    ),
}
# The same, of what is looked for once Snakemake has begun.
LATER: dict[str, tuple[str, str, str]] = {
    "no folder of videos": (
        "manifest",
        BEGUN.replace("videos", "vidoes"),
        "video_dir: no such folder: v",
    ),
    "a flag": (
        "manifest --sett a=b",
        BEGUN,
        "unrecognized arguments: --sett a=b; see snakemake --help",
    ),
    "cores": (
        "manifest --cores",
        BEGUN,
        "argument --cores/-c: expected one argument; see snakemake",
    ),
    "a profile": (
        "manifest --profile slrm",
        BEGUN,
        "profile directory given (slrm), but no profile.yaml",
    ),
    "a table's columns": (
        "manifest",
        GIVEN + "labels: {captions: table.csv}\n",
        "labels.captions: table.csv:1: expected a column path or",
    ),
    "no table": (
        "manifest",
        GIVEN + "labels: {captions: none.csv}\n",
        "labels.captions: none.csv: No such",
    ),
    "a model": (
        "manifest",
        HEARD + "whisper_model: lage-v3\n",
        "transcript.whisper_model: expected one of tiny, ",
    ),
    "no GPU": ("manifest", HEARD + "whisper_model: offline-tiny.en\n", "expected auto or cpu then"),
    "too many GPUs": (
        "train",
        BEGUN + TRAINED.replace("train: {", "train: {min_gpus: 9, gpus: 9, "),
        "train.runs.default.min_gpus: the run needs 9, and the GPUs here are 0; expected",
    ),
    "no captions": (
        "train",
        BEGUN
        + TRAINED.replace("{id}", "{caption}").replace("}}", "}, allow_cpu: true, min_gpus: 0}"),
        "train.runs.default.text.answer: no video will have 'caption'; expected caption.enabled",
    ),
    "a file for a folder": (
        "manifest",
        BEGUN + "output_dir: table.csv\n",
        "output_dir: table.csv can't be written: Not a directory",
    ),
}


@pytest.fixture
def user(tmp_path: Path) -> User:
    for name in ("videos", "config"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "config/demo/clips/title.mp4", tmp_path / "videos/clip.mp4")
    (tmp_path / "table.csv").write_text("nam,txt\nclip.mp4,A title.\n")
    return User(tmp_path, ROOT)


def told(user: User, typed: str, config: str | None) -> list[str]:
    """Type a command that fails for what its user did; returns the lines that it says."""
    if config is not None:
        (user.folder / "config/config.yaml").write_text(config)
    done = user.type(*typed.split())
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("name", AT_ONCE)
def test_said_at_once(user: User, name: str) -> None:
    typed, config, line = AT_ONCE[name]
    lines = told(user, typed, config)
    if typed == "validate":  # a table, where it can begin
        assert any(line in one for one in lines), lines
    else:
        assert line in lines[-1]
        assert len(lines) <= MOST, lines
    assert not (user.folder / "data").exists()


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
@pytest.mark.parametrize("name", LATER)
def test_said_before_the_first_job(user: User, name: str) -> None:
    typed, config, line = LATER[name]
    lines = told(user, typed, config)
    assert line in lines[-1], lines
    assert len(lines) <= MOST, lines


@pytest.mark.parametrize("seconds", [0.5, 0.9])
def test_ctrl_c_shows_no_trace(user: User, seconds: float) -> None:
    """While it, or Snakemake, is still being imported, or later on a quick machine."""
    (user.folder / "config/config.yaml").write_text(BEGUN)
    begun = user.begin("manifest", "--cores", "1")
    time.sleep(seconds)
    begun.send_signal(signal.SIGINT)
    said = "".join(begun.communicate())
    assert begun.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said


def test_broken_subtitles_are_named(user: User) -> None:
    """The build goes on, and says which file and line it could not read."""
    (user.folder / "videos/clip.srt").write_text("hello\nthis is none")
    given = BEGUN.replace("transcript: {enabled: false}", "transcript: {backend: sidecar}")
    (user.folder / "config/config.yaml").write_text(given)
    done = user.type("manifest", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "WARNING: labels.transcripts: videos/clip.srt:1: expected times such as" in done.stderr
