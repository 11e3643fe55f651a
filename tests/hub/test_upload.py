"""What may be wrong with what goes to a hub is remarked before it goes."""

import json
from pathlib import Path

from spark_trainer.data.layout import Layout
from spark_trainer.hub import upload
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store.lineage import Runs
from tests.exports.conftest import Store


def test_a_run_of_an_earlier_version_with_an_adapter(run: RunFolder, tmp_path: Path) -> None:
    """It kept no digests; and its base lies on this machine alone."""
    told = json.loads(run.summary.read_text())
    del told["digests"]
    run.summary.write_text(json.dumps(told))
    base = {"base_model_name_or_path": str(tmp_path / "blip")}
    (run.final / "adapter_config.json").write_text(json.dumps(base))
    (run.final / "notes.txt").write_text(f"see {run.final.absolute()}")
    (tmp_path / "secret").write_text("secret")
    (run.final / "link.txt").symlink_to(tmp_path / "secret")
    (run.final / "\udcff.txt").write_text("no name that a hub takes")
    due = upload.of_run(run, Runs([run]), Layout(tmp_path / "out"))
    assert due.left_out == ["link.txt", "wer.json", "\udcff.txt"]
    assert "stays here: link.txt, wer.json, \\udcff.txt" in due.noted()
    assert due.remarks == [
        "of an earlier version, which kept no digests of its weights",
        f"adapter_config.json names a base of this machine, {tmp_path / 'blip'}: nobody else can "
        "load the adapter",
        "names folders of this machine: notes.txt",
    ]
    assert {"adapter_config.json", "model.safetensors"} <= due.files.keys()


def test_what_came_to_a_finished_run_stays_here(run: RunFolder, tmp_path: Path) -> None:
    (run.final / "mine.txt").write_text("notes")
    due = upload.of_run(run, Runs([run]), Layout(tmp_path / "out"))
    assert sorted(due.left_out) == ["mine.txt", "wer.json"]
    assert due.remarks == []


def test_an_export_that_names_its_folder(store: Store) -> None:
    due = upload.of_export(store.export("ms-swift", media="link").folder, store.layout)
    assert due.remarks == ["names folders of this machine: README.md, train.jsonl"]
    for to in ("videofolder", "parquet", "webdataset"):
        due = upload.of_export(store.export(to, to).folder, store.layout)
        assert due.remarks == [], to
