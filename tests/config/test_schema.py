"""The generated files agree with the models, and every shipped configuration is valid."""

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from spark_trainer import config
from spark_trainer.config import schema

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "config").glob("*.yaml")) + sorted(ROOT.glob("config/examples/*.yaml"))
NAMES = [str(path.relative_to(ROOT)) for path in SHIPPED]


def test_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """On failure run `python -m spark_trainer.config.schema --fix`; the difference is shown."""
    assert schema.main([]) == 0, capsys.readouterr().out


def test_drift_is_shown_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path)]
    assert schema.main(["--fix", *folder]) == 0
    path = tmp_path / "default.yaml"
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace("frame_rate: 1.0", "frame_rate: 9.0"), encoding="utf-8")
    assert schema.main(folder) == 1
    shown = capsys.readouterr().out
    assert "-  frame_rate: 9.0" in shown
    assert "+  frame_rate: 1.0" in shown
    assert schema.main(["--fix", *folder]) == 0
    assert path.read_text(encoding="utf-8") == good


def test_default_file_holds_the_defaults() -> None:
    read = config.read(ROOT / "config/default.yaml")
    assert read.model_dump(exclude={"train"}) == config.Config().model_dump(exclude={"train"})
    assert read.runs == {"default": config.Run()}


def test_every_key_is_described() -> None:
    described = (ROOT / "config/default.yaml").read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(described):
        if line.strip() and not line.lstrip().startswith(("#", "-")):
            assert above.lstrip().startswith("# "), f"no description above: {line}"


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_shipped_configuration_is_valid(path: Path) -> None:
    config.read(path)
    known = json.loads((ROOT / "config/schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(known)
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), known)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bogus": 1},
        {"frames": {"bogus": 1}},
        {"frame_rate": 0},
        {"train": {"runs": {"a": {"bogus": 1}}}},
        {"train": {"split": {"validation": 1.0}}},
    ],
    ids=str,
)
def test_schema_refuses_what_the_models_refuse(wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema.json_schema())
    with pytest.raises(config.ConfigError):
        config.load(wrong)


@pytest.mark.parametrize(("stage", "offloads"), [(2, set()), (3, {"cpu"})])
def test_deepspeed_files(stage: int, offloads: set[str]) -> None:
    values = json.loads((ROOT / f"config/deepspeed_zero{stage}.json").read_text(encoding="utf-8"))
    zero = values["zero_optimization"]
    assert zero["stage"] == stage
    places = {zero[key]["device"] for key in zero if key.startswith("offload_")}
    assert places == offloads
    assert not {"optimizer", "scheduler"} & values.keys()
