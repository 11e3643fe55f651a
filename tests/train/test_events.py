"""Events as TensorBoard reads them."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spark_trainer.train.events import Events


def test_a_resumed_run_takes_back_what_came_after(tmp_path: Path) -> None:
    """Numbers and pictures of updates, each once, in the order in which they were made."""
    for resumed, last in ((-1, 4), (2, 5)):
        events = Events(tmp_path, resumed)
        for step in range(resumed + 1, last):
            events.numbers(step, {"loss": last + step / 4, "mfu": step})
            events.picture(step, "samples", b"a picture", (3, 2))
        events.close()
    read = EventAccumulator(str(tmp_path), {"scalars": 0, "images": 0})  # 0: all
    read.Reload()
    assert read.Tags()["scalars"] == ["loss", "mfu"]
    assert [one.value for one in read.Scalars("loss")] == [4, 4.25, 4.5, 5.75, 6]
    pictures = read.Images("samples")
    assert [one.step for one in pictures] == [0, 1, 2, 3, 4]
    assert {(one.encoded_image_string, one.width, one.height) for one in pictures} == {
        (b"a picture", 3, 2)
    }
