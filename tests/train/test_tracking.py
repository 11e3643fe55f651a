"""What a run tells, as TensorBoard's own readers take it."""

import html
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from tensorboard import plugin_util
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text import metadata as texts

from spark_trainer.config import Run
from spark_trainer.families.kinds.generated import GeneratedText, GeneratedVideo
from spark_trainer.families.kinds.transcribed import GeneratedTranscript
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train.tracking import Tracker

VIDEO = "ab" * 32
EVIL = "*A* _b_ __init__ <b>dog</b> | [x](http://x)\n# `barks`"
FRAMES = [Image.new("RGB", (640, 480), colour) for colour in ("red", "green", "blue")]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "slow-1a2b3c4d")
    made.path.mkdir()
    return made


def read(run: RunFolder) -> EventAccumulator:
    found = EventAccumulator(str(run.events), {"images": 0, "tensors": 0, "scalars": 0})
    found.Reload()
    return found


def rows(found: EventAccumulator) -> dict[int, list[list[str]]]:
    """Update -> the cells of its table of texts."""
    name = "samples/text_summary"
    assert found.SummaryMetadata(name).plugin_data.plugin_name == texts.PLUGIN_NAME
    told = {one.step: one.tensor_proto.string_val[0].decode() for one in found.Tensors(name)}
    return {
        step: [
            [html.unescape(cell.strip()) for cell in line.strip("|").split(" | ")]
            for number, line in enumerate(text.splitlines())
            if number != 1
        ]
        for step, text in told.items()
    }


def test_texts_stand_beside_those_before_training(run: RunFolder) -> None:
    """As they are, whatever they mean to Markdown; and once each after a resume."""
    for resumed, steps in ((-1, (0, 4, 8)), (4, (8,))):
        tracker = Tracker(run, resumed, Run())
        for step in steps:
            said = f"{EVIL} {step}"
            tracker.samples(step, [GeneratedText(VIDEO, EVIL, said, FRAMES)])
        tracker.close()
    flat = " ".join(EVIL.split())
    shown = read(run).Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()
    assert not re.search("<(em|strong|b|code|h1|a)[ >]", plugin_util.markdown_to_safe_html(shown))
    assert rows(read(run)) == {
        0: [["video", "caption", "generated"], [VIDEO, flat, f"{flat} 0"]],
        **{
            step: [
                ["video", "caption", "generated", "generated before"],
                [VIDEO, flat, f"{flat} {step}", f"{flat} 0"],
            ]
            for step in (4, 8)
        },
    }


def test_frames_are_shown_small_beside_what_is_said(run: RunFolder) -> None:
    tracker = Tracker(run, -1, Run())
    tracker.samples(0, [GeneratedText(VIDEO, "A dog.", "A cat.", FRAMES)])
    tracker.samples(4, [GeneratedVideo(VIDEO, "A dog.", 4, FRAMES, FRAMES)])
    tracker.samples(8, [GeneratedTranscript(VIDEO, 30.0, "Zorvex", "Sore vex", "en")])
    tracker.close()
    found = read(run)
    assert set(found.Tags()["images"]) == {
        f"frames/{VIDEO[:12]}",
        f"sample/{VIDEO[:12]}",
        "samples",
    }
    [frames] = found.Images(f"frames/{VIDEO[:12]}")
    opened = Image.open(io.BytesIO(frames.encoded_image_string))
    assert (opened.size, opened.format) == ((3 * 160, 120), "JPEG")
    assert (frames.width, frames.height) == opened.size
    assert opened.getpixel((80, 60))[0] > 200
    assert rows(found)[8][0] == ["video", "start", "reference", "text", "edits", "language"]


def test_settings_are_what_runs_are_compared_by(run: RunFolder) -> None:
    Tracker(run, -1, Run(learning_rate=0.25)).close()
    Tracker(run, 4, Run(learning_rate=0.25)).close()
    found = read(run)
    content = found.SummaryMetadata(hparams.SESSION_START_INFO_TAG).plugin_data.content
    values = hparams.parse_session_start_info_plugin_data(content).hparams
    assert values["learning_rate"].number_value == 0.25
    assert values["split.seed"].number_value == Run().split.seed
    assert values["run"].string_value == run.name
    content = found.SummaryMetadata(hparams.EXPERIMENT_TAG).plugin_data.content
    metrics = hparams.parse_experiment_plugin_data(content).metric_infos
    assert [one.name.tag for one in metrics] == ["held_out_loss", "loss"]
