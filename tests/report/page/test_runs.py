"""Curves, samples and origins of runs, few enough to be drawn."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.data import manifest
from spark_trainer.report.page import runs
from spark_trainer.runs.folder import RunFolder

from .conftest import Build, entry


def run_folder(folder: Path, name: str, videos: dict[str, Any], **said: Any) -> RunFolder:
    """What a finished run leaves, and two updates of its samples."""
    made = RunFolder(folder / name)
    made.samples.mkdir(parents=True)
    chosen = Run(learning_rate=0.5, max_steps=10).model_dump(mode="json")
    made.run_file.write_text(json.dumps({"settings": chosen, "versions": None}))
    told = {"videos": videos, "manifest_sha256": "0" * 64, "packages": {"torch": "2"}}
    made.lineage.write_text(json.dumps(told | said))
    lines = [{"step": step, "held_out_loss": 3 - step / 10, "loss": None} for step in range(11)]
    made.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, text in ((0, "before"), (10, "after")):
        sample = {"video": next(iter(videos)), "caption": "wanted", "generated": text}
        made.sample(step).write_text(json.dumps([sample]))
    return made


def test_a_run_is_told_with_its_curves_and_samples(
    frames: Path, build: Build, tmp_path: Path
) -> None:
    dog = entry(frames, "dog")
    runs_of = [
        run_folder(tmp_path, "first-11111111", {dog["id"]: {}}),
        run_folder(tmp_path, "next-22222222", {dog["id"]: {}}, base_run="first-11111111"),
    ]
    page = build([dog], runs=runs_of)
    first, _ = page.data("runs")["runs"]
    assert (first["name"], first["steps"], first["finished"]) == ("first-11111111", 10, False)
    assert first["values"] == [3.0, 2.0, 2.0]
    assert first["curves"] == {
        "held_out_loss": [[*range(11)], [round(3 - n / 10, 6) for n in range(11)]]
    }
    assert [(one["step"], one["samples"][0]["text"]) for one in first["samples"]] == [
        (0, "before"),
        (10, "after"),
    ]
    assert first["parameters"]["learning_rate"] == 0.5
    told = page.data("lineage")
    assert told["links"] == [
        {
            "later": "next-22222222",
            "how": "begins with the weights of",
            "earlier": "first-11111111",
        }
    ]
    assert [run["packages"] for run in told["runs"]] == [{"torch": "2"}] * 2
    assert page.data("texts-0")[0]["runs"] == [[0, "unknown"], [1, "unknown"]]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("lineage.json", '{"videos": '),
        ("lineage.json", "null"),
        ("lineage.json", '{"videos": ["x"], "manifest_sha256": "0"}'),
        ("lineage.json", '{"videos": {"x": null}, "manifest_sha256": "0"}'),
        ("lineage.json", '{"videos": {}, "manifest_sha256": null}'),
        ("lineage.json", '{"videos": {}, "manifest_sha256": "0", "processes": NaN}'),
        ("run.json", ""),
        ("lineage.json", '{"videos": {}, "manifest_sha256": "0", "made_by": ["x"]}'),
        ("trained.json", "[]"),
        ("trained.json", '{"scores": {"wer": NaN}}'),
        ("manifest.jsonl", '{"id": '),
        ("metrics.jsonl", f'{{"step": 1, "loss": {"9" * 400}}}'),
        ("samples/step_00000010.json", "{}"),
        ("samples/step_00000010.json", '["x"]'),
        ("samples/step_00000010.json", '[{"video": 5}]'),
        ("samples/step_00000010.json", '[{"file": "/etc/passwd"}]'),
        ("samples/step_00000010.json", '[{"file": "../../secret.mp4"}]'),
    ],
)
def test_a_damaged_run_is_named_and_left_out(
    file: str, content: str, frames: Path, build: Build, tmp_path: Path
) -> None:
    dog = entry(frames, "dog")
    whole = run_folder(tmp_path, "whole-11111111", {dog["id"]: {}})
    torn = run_folder(tmp_path, "torn-22222222", {dog["id"]: {}})
    (torn.path / file).write_text(content)
    told = build([dog], runs=[whole, torn]).data("runs")
    assert [run["name"] for run in told["runs"]] == ["whole-11111111"]
    (why,) = told["left_out"]
    assert "torn-22222222" in why


def test_what_a_run_can_do_without_is_no_damage(frames: Path, build: Build, tmp_path: Path) -> None:
    """Lines of metrics that are none, settings of another version, foreign files of samples."""
    dog = entry(frames, "dog")
    run = run_folder(tmp_path, "odd-11111111", {dog["id"]: {}})
    run.run_file.write_text('{"settings": {"of_later": 1}, "versions": null}')
    manifest.write(run.manifest, [dog])
    (run.samples / "step_x.json").write_text("[]")
    lines = ('{"step": 1, "loss": 2.5}', "[1]", '"x"', '{"loss": 1}', '{"step": null, "loss": 1}')
    bad = ('{"step": 2, "loss": NaN}', '{"step": 3, "loss": 1e999, "grad_norm": 1}', '{"step": 4,')
    run.metrics.write_text("\n".join([*lines, *bad]))
    page = build([dog], runs=[run])
    [told] = page.data("runs")["runs"]
    assert told["curves"] == {"loss": [[1], [2.5]], "grad_norm": [[3], [1.0]]}
    assert page.data("texts-0")[0]["runs"] in ([[0, "train"]], [[0, "validation"]])


@pytest.mark.parametrize("length", [runs.POINTS, runs.POINTS + 1, 100_000])
def test_a_thinned_curve_keeps_its_ends_and_extremes(length: int) -> None:
    values = [float((n * 7919) % 1009) for n in range(length)]
    values[length // 3] = 1e9
    curve = runs.thinned([[*range(length)], values])
    assert len(curve[0]) <= runs.POINTS
    assert (curve[0][0], curve[0][-1]) == (0, length - 1)
    assert max(curve[1]) == 1e9
    assert all(values[int(step)] == value for step, value in zip(*curve[:2], strict=True))
    for means in curve[2:]:
        assert len(means) == len(curve[0])
        assert max(means) < 1e9


def test_the_loss_and_the_objective_come_first() -> None:
    lines = [{"step": 1, "grad_norm": 1.0, "loss": 2.0}, {"step": 1, "held_out_loss": 3.0}]
    assert [*runs.curves(lines)] == ["held_out_loss", "loss", "grad_norm"]
