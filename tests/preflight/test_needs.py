"""What a build needs, told before its first job: nothing of it is a stand-in but the hub."""

import errno
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import config, steps
from spark_trainer.config import ConfigError
from spark_trainer.data import models
from spark_trainer.errors import MachineError
from spark_trainer.preflight import needs
from spark_trainer.preflight.needs import Due

WITHOUT = {"transcript": {"enabled": False}, "caption": {"enabled": False}}
ANSWERS = {  # what the hub says in its own words: huggingface_hub/utils/_http.py
    "/api/models/some/public": (200, {}, b'{"id": "some/public"}'),
    "/api/models/some/none": (401, {"X-Error-Message": "Invalid username or password."}, b"{}"),
    "/api/models/some/hidden": (404, {"X-Error-Code": "RepoNotFound"}, b"{}"),
    "/api/models/some/public/revision/v9": (404, {"X-Error-Code": "RevisionNotFound"}, b"{}"),
    "/api/models/some/gated": (403, {"X-Error-Code": "GatedRepo"}, b"{}"),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that knows one public model."""

    def do_GET(self) -> None:
        """Answer."""
        status, headers, body = ANSWERS.get(self.path, (500, {}, b""))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def asking(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty cache, and the hub of these tests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point(monkeypatch, hub)
    return hub


def point(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let the client ask there; it reads the variable only once."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)


def lines(data: dict[str, Any], gpus: int | None = 0, **due: Any) -> list[str]:
    """What is wrong with everything that a configuration describes."""
    made = config.load(data)
    wanted = Due(due.get("steps", steps.enabled(made)), made.runs, gpus)
    return [line for check in needs.CHECKS.values() for line in check(made, wanted)]


def run(tmp_path: Path, **keys: Any) -> dict[str, Any]:
    """A configuration of one run whose model is a folder of the right kind."""
    folder = tmp_path / "blip"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "blip"}')
    text = {"answer": "{source_path}"}
    usable = {"model_name": str(folder), "allow_cpu": True, "min_gpus": 0, "text": text}
    return {**WITHOUT, "output_dir": str(tmp_path / "out"), "train": usable | keys}


def test_a_family_that_is_not_asked_in_a_chat_learns_from_no_reward(tmp_path: Path) -> None:
    asked = {"model_type": "rft", "rft": {"reward_funcs": ["exact"]}, "global_batch_size": 8}
    [line] = lines(run(tmp_path, **asked))
    assert line.startswith("train.runs.default.model_name: ")
    assert "captions a frame, it is not asked in a chat" in line


@pytest.mark.parametrize(
    ("name", "revision", "why"),
    [
        ("some/public", None, None),
        ("some/public", "v9", "the hub has no revision 'v9' of it"),
        ("some/none", None, "there is no such folder, and the hub knows no such model"),
        ("some/hidden", None, "there is no such folder, and the hub knows no such model"),
        ("some/gated", None, "access is gated: ask for it on the model's page"),
        ("some/trouble", None, "it is not on this machine, and the hub answers 500"),
        ("no hub id", None, "there is no such folder, and a hub id can't have this form"),
        ("./nowhere", None, "there is no such folder, and a hub id can't have this form"),
    ],
)
def test_what_the_hub_says(asking: str, name: str, revision: str | None, why: str | None) -> None:
    found = models.unavailable(name, revision)
    assert found == why if why is None else (found or "").startswith(why)


def test_a_network_that_is_down_is_not_the_names_fault(
    asking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(monkeypatch, "http://127.0.0.1:9")
    said = models.unavailable("some/public") or ""
    assert said.startswith("it is not on this machine, and the hub can't be asked (")
    assert said.endswith("(Connection refused)")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("some/trouble", MachineError), ("some/none", ConfigError), ("some/gated", ConfigError)],
)
def test_whose_trouble_the_hubs_answer_is(asking: str, name: str, kind: type[Exception]) -> None:
    from huggingface_hub import HfApi, errors

    with pytest.raises(errors.HfHubHTTPError) as caught:
        HfApi().model_info(name)
    error = OSError("We couldn't connect to load the files")  # as transformers says it
    error.__cause__ = caught.value
    assert type(models.unusable("x: it can't be loaded", error)) is kind


@pytest.mark.parametrize(
    ("below", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), MachineError),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), MachineError),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), ConfigError),
        (ValueError("no safetensors"), ConfigError),
    ],
    ids=str,
)
def test_whose_trouble_a_failed_load_is(below: Exception, kind: type[Exception]) -> None:
    error = OSError("it can't be loaded")
    error.__cause__ = below
    assert type(models.unusable("x: it can't be loaded", error)) is kind


def test_offline_what_is_cached_is_fine(
    asking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = "it is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub"
    assert models.unavailable("some/public") == said
    kept = tmp_path / "cache/models--some--public"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text("abc")
    (kept / "snapshots/abc").mkdir(parents=True)
    (kept / "snapshots/abc/config.json").write_text("{}")
    assert models.unavailable("some/public") == said  # its weights are not there
    (kept / "snapshots/abc/model.safetensors").write_bytes(b"")
    assert models.unavailable("some/public") is None


def test_a_usable_run_is_fine(tmp_path: Path) -> None:
    assert lines(run(tmp_path)) == []


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"trackers": ["mlflow"]}, ".trackers: mlflow needs the package mlflow-skinny, which is "),
        ({"attention": "flash_attention_2"}, ".attention: flash_attention_2 needs the package"),
        ({"attention": "flash_attention_3"}, ".attention: flash_attention_3 needs the package"),
        (
            {"min_gpus": 2},
            ".min_gpus: the run needs 2, and the GPUs here are 0; expected allow_cpu",
        ),
        ({"allow_cpu": False}, ".min_gpus: the run needs 1, and the GPUs here are 0; expected"),
        ({"nodes": 2}, ".nodes: expected 1 without Slurm (got 2)"),
        (
            {"global_batch_size": 7, "cpu_processes": 2},
            ".global_batch_size: 7 samples can't be shared evenly by 2 processes",
        ),
        ({"text": {"answer": "{captoin}"}}, ".text.answer: no video will have 'captoin'; expected"),
        (
            {"text": {"answer": "{caption}"}},
            ".text.answer: no video will have 'caption'; expected caption.enabled: true",
        ),
        (
            {"text": {"answer": "{source_path:d}"}},
            ".text.answer: 'source_path' doesn't fit the template '{source_path:d}'",
        ),
        ({"text": {"answer": "{id:>9999999999}"}}, ".text.answer: 'id' doesn't fit the template"),
        ({"text": {"each": "parts", "answer": "{x}"}}, ".text.each: no video will have 'parts'"),
        ({"output_dir": "/proc/runs"}, ".output_dir: /proc/runs can't be written: "),
        ({"model_name": "./none"}, ".model_name: ./none: there is no such folder, and a hub id"),
    ],
)
def test_what_a_run_lacks_is_named_with_its_key(
    tmp_path: Path, keys: dict[str, Any], line: str
) -> None:
    [found] = lines(run(tmp_path, **keys))
    assert found.startswith(f"train.runs.default{line}")


def test_what_a_speech_model_hears_is_made_or_given(tmp_path: Path) -> None:
    keys = run(tmp_path, model_name="offline-tiny.en", model_type="asr", text={})
    [line] = lines(keys)
    assert ".text.answer: no video will have 'transcript'; expected transcript.enabled" in line
    keys["train"]["asr"] = {"references": str(tmp_path)}
    assert lines(keys) == []
    [line] = lines(keys | {"audio": {"enabled": False}})
    assert line.endswith(".model_type: asr learns from sound; expected audio.enabled")


def test_a_format_that_numbers_have_is_fine(tmp_path: Path) -> None:
    assert lines(run(tmp_path, text={"answer": "{duration:.1f} s, {width:d}, {id!r:>9}"})) == []


def test_a_folder_of_no_family_is_named(tmp_path: Path) -> None:
    keys = run(tmp_path)
    config_json = tmp_path / "blip/config.json"
    config_json.write_text('{"model_type": "bert"}')
    [line] = lines(keys)
    assert "is a 'bert' checkpoint; expected one of: " in line
    config_json.write_text("{")
    [line] = lines(keys)
    assert line.startswith(f"train.runs.default.model_name: {tmp_path / 'blip'}: ")


def test_the_keys_of_a_given_manifest_count(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "a", "frames_dir": null, "audio": null, "meta": {"question": "?"}}\n')
    assert lines(run(tmp_path, manifest_path=str(path), text={"answer": "{question}"})) == []
    [line] = lines(run(tmp_path, manifest_path=str(path), text={"answer": "{caption}"}))
    assert "no video will have 'caption'" in line


def test_a_cluster_needs_no_gpu_where_jobs_are_sent(tmp_path: Path) -> None:
    data = run(tmp_path, min_gpus=8, gpus=8, global_batch_size=16, allow_cpu=False)
    data["transcript"] = {"whisper_model": "offline-tiny.en"}
    assert len(lines(data, gpus=0)) == 2
    assert lines(data, gpus=None) == []
    data["train"]["global_batch_size"] = 12
    [line] = lines(data, gpus=None)
    assert "12 samples can't be shared evenly by 8 processes" in line


def test_a_size_that_is_kept_here_is_not_looked_for_at_the_hub(
    asking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asr = {"references": str(tmp_path)}
    data = run(tmp_path, model_name="turbo", model_type="asr", text={}, asr=asr)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    [line] = lines(data)
    assert line.startswith("train.runs.default.model_name: openai/whisper-large-v3-turbo: ")
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper/large-v3-turbo.pt").touch()
    assert lines(data) == []


def test_only_what_is_due_is_asked_for(tmp_path: Path) -> None:
    data = {"output_dir": str(tmp_path), "caption": {"captioner_backend": "imagenet-tags"}}
    data["transcript"] = {"backend": "faster-whisper", "whisper_model": "offline-tiny.en"}
    assert lines(data, steps=("frames", "audio", "caption/imagenet-tags")) == []
    [line] = lines(data)
    assert line.startswith("transcript.device: cuda, but no GPU: ")


def test_what_a_run_that_hears_is_given_is_read_first(tmp_path: Path) -> None:
    """Before hours of work on videos; all of it is named at once."""
    (tmp_path / "said.csv").write_text("path,text\na.mp4,\n")
    (tmp_path / "names.txt").write_text("\n")
    hears = {"model_type": "asr", "model_name": "tiny.en", "allow_cpu": True, "min_gpus": 0}
    asr = {"references": "said.csv", "words": "names.txt", "forgetting": "old.jsonl"}
    given = {key: str(tmp_path / value) for key, value in asr.items()}
    given |= {"language": "de", "task": "translate"}
    found = lines(WITHOUT | {"train": {"runs": {"words": hears | {"asr": given}}}})
    where = "train.runs.words.asr"
    assert [line for line in found if where in line] == [
        f"{where}.references: {tmp_path}/said.csv:2: without text",
        f"{where}.words: {tmp_path}/names.txt: expected a word on each line (the file has none)",
        f"{where}.forgetting: no such file: {tmp_path}/old.jsonl",
        f"{where}.language: expected en, tiny.en is English-only (got 'de')",
        f"{where}.task: expected transcribe, tiny.en never learnt to translate",
    ]
