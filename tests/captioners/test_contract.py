"""What every captioner keeps, on tiny checkpoints: its words are upstream's own."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig, GenerationMixin

from spark_trainer import captioners, config
from spark_trainer.captioners import Captioner
from spark_trainer.config import ConfigError

from .recipes import KINDS, Decoding, Kind, Said

SIZES_PX = ((80, 60), (200, 50), (40, 120), (64, 64))
FRAMES = (4, 1, 3, 2)  # of the videos
VIDEO = [kind for kind in KINDS if kind.sees_video]
ONE_FRAME = [kind for kind in KINDS if not kind.sees_video]
GREEDY, BEAMS, SHORT = Decoding(), Decoding(num_beams=3), Decoding(max_new_tokens=5)


def each(kinds: Sequence[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds], scope="module")


@pytest.fixture(scope="module")
def checkpoint(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kind.make(tmp_path_factory.mktemp(kind.name))


@pytest.fixture(scope="module")
def images(pictures: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One picture of each size and shape."""
    folder = tmp_path_factory.mktemp("images")
    return [
        resized(picture, size, folder / f"{number}.png")
        for number, (picture, size) in enumerate(zip(pictures.values(), SIZES_PX, strict=True))
    ]


@pytest.fixture(scope="module")
def videos(pictures: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """A video of each size and shape, each of another number of frames."""
    folder, found = tmp_path_factory.mktemp("videos"), []
    for number, (size, count) in enumerate(zip(SIZES_PX, FRAMES, strict=True)):
        shown = itertools.islice(itertools.cycle(pictures.values()), number, number + count)
        found.append([resized(p, size, folder / f"{number}-{i}.png") for i, p in enumerate(shown)])
    return found


def resized(picture: Path, size_px: tuple[int, int], path: Path) -> Path:
    with Image.open(picture) as image:
        image.convert("RGB").resize(size_px).save(path)
    return path


def load(
    kind: Kind,
    checkpoint: Path,
    decoding: Decoding = GREEDY,
    prompt: str | None = None,
    backend: str | None = None,
) -> Captioner:
    settings = config.Captioning(
        captioner_backend=backend or kind.backend,
        model_name=str(checkpoint),
        prompt=prompt or kind.prompts[0],
        num_frames=max(FRAMES),
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        device="cpu",
    )
    return captioners.load(settings, threads=1, device="cpu")


def upstream(
    kind: Kind,
    checkpoint: Path,
    frames: Sequence[Path],
    decoding: Decoding = GREEDY,
    prompt: str | None = None,
) -> Said:
    opened = []
    for path in frames:
        with Image.open(path) as image:
            opened.append(image.convert("RGB"))
    return kind.recipe(checkpoint, opened, prompt or kind.prompts[0], decoding)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What upstream's `generate` returned, call by call."""
    made: list[torch.Tensor] = []
    original = GenerationMixin.generate

    def generate(self: Any, *values: Any, **named: Any) -> Any:
        out = original(self, *values, **named)
        made.append(out)
        return out

    monkeypatch.setattr(GenerationMixin, "generate", generate)
    return made


@each(KINDS)
@pytest.mark.parametrize("decoding", [GREEDY, BEAMS, SHORT], ids=["greedy", "beams", "short"])
def test_a_caption_is_upstreams_token_for_token(
    kind: Kind,
    decoding: Decoding,
    checkpoint: Path,
    images: list[Path],
    generated: list[torch.Tensor],
) -> None:
    captioner = load(kind, checkpoint, decoding)
    expected = [upstream(kind, checkpoint, [image], decoding) for image in images]
    assert len({said.ids for said in expected}) > len(images) / 2
    for image, said in zip(images, expected, strict=True):
        generated.clear()
        assert captioner.predict(image) == said.text
        (ids_BL,) = generated
        assert tuple(ids_BL[0].tolist())[-len(said.ids) :] == said.ids


@each(KINDS)
@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_images_of_any_shape_share_a_batch(
    kind: Kind, decoding: Decoding, checkpoint: Path, images: list[Path]
) -> None:
    captioner = load(kind, checkpoint, decoding)
    batch = captioner.predict_batch([[image] for image in images])
    assert batch == [captioner.predict(image) for image in images]
    assert len(set(batch)) > 1


@each([kind for kind in KINDS if kind.backend not in ("blip", "blip2")])
def test_captions_of_any_length_share_a_batch(
    kind: Kind, checkpoint: Path, images: list[Path], tmp_path: Path
) -> None:
    """What is padded behind a caption that ends early is no part of it.

    An early end is a token of the first caption taken for one more end; BLIP and BLIP-2 don't read
    the ends in generation_config.json.
    """
    folder = shutil.copytree(checkpoint, tmp_path / "ends")
    said = upstream(kind, checkpoint, images[:1]).ids
    generation = GenerationConfig.from_pretrained(folder)
    generation.eos_token_id = [generation.eos_token_id, said[len(said) // 2]]
    generation.save_pretrained(folder)
    expected = [upstream(kind, folder, [image]) for image in images]
    assert len({len(one.ids) for one in expected}) > 1
    batch = load(kind, folder).predict_batch([[image] for image in images])
    assert batch == [one.text for one in expected]


@each(VIDEO)
@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_videos_of_any_shape_and_length_share_a_batch(
    kind: Kind, decoding: Decoding, checkpoint: Path, videos: list[list[Path]]
) -> None:
    """One of them has one frame, which is an image."""
    captioner = load(kind, checkpoint, decoding)
    expected = [upstream(kind, checkpoint, video, decoding).text for video in videos]
    assert [captioner.predict_batch([video])[0] for video in videos] == expected
    assert captioner.predict_batch(videos) == expected
    assert captioner.predict_batch(videos[::-1]) == expected[::-1]
    assert len(set(expected)) > 1


@each(VIDEO)
def test_every_frame_reaches_the_model(
    kind: Kind, checkpoint: Path, videos: list[list[Path]], images: list[Path], tmp_path: Path
) -> None:
    captioner = load(kind, checkpoint)
    video = videos[0]
    whole = captioner.predict_batch([video])[0]
    with Image.open(video[0]) as image:
        other = tmp_path / "other.png"
        Image.effect_mandelbrot(image.size, (-2, -1, 1, 1), 50).convert("RGB").save(other)
    for place in range(len(video)):
        dropped = [frame for i, frame in enumerate(video) if i != place]
        changed = [other if i == place else frame for i, frame in enumerate(video)]
        assert captioner.predict_batch([dropped])[0] != whole, f"frame {place} isn't seen"
        assert captioner.predict_batch([changed])[0] != whole, f"frame {place} isn't seen"
    assert captioner.predict_batch([video[::-1]])[0] != whole, "their order isn't seen"


@each(ONE_FRAME)
def test_the_middle_frame_stands_for_the_video(
    kind: Kind, checkpoint: Path, videos: list[list[Path]]
) -> None:
    captioner = load(kind, checkpoint)
    middles = [video[len(video) // 2] for video in videos]
    expected = [upstream(kind, checkpoint, [middle]).text for middle in middles]
    assert captioner.predict_batch(videos) == expected
    assert len(set(expected)) > 1


@each([kind for kind in KINDS if len(kind.prompts) > 1])
def test_the_prompt_reaches_the_model(kind: Kind, checkpoint: Path, images: list[Path]) -> None:
    usual, other = kind.prompts
    expected = [upstream(kind, checkpoint, [image], prompt=other).text for image in images]
    captioner = load(kind, checkpoint, prompt=other)
    assert captioner.predict_batch([[image] for image in images]) == expected
    assert expected != [upstream(kind, checkpoint, [image]).text for image in images], usual


@each(KINDS)
def test_decoding_shows_in_the_tokens(kind: Kind, checkpoint: Path, images: list[Path]) -> None:
    """So that a captioner that leaves out either setting fails above."""
    greedy, beams, short = (
        [upstream(kind, checkpoint, [image], decoding).ids for image in images]
        for decoding in (GREEDY, BEAMS, SHORT)
    )
    assert greedy != beams
    assert greedy != short


@each(KINDS)
def test_pickled_weights_are_refused(kind: Kind, checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises((OSError, ValueError), match="safetensors"):
        load(kind, folder)


@each(KINDS)
def test_another_backends_checkpoint_is_refused(kind: Kind, checkpoint: Path) -> None:
    """The message names the key that is wrong, and what the checkpoint is."""
    others = {other.backend for other in KINDS} - {kind.backend}
    for other in sorted(others):
        with pytest.raises(ValueError, match=r"caption\.model_name"):
            load(kind, checkpoint, backend=other)


def refused(kind: Kind, missing: str, checkpoint: Path, copy: Path) -> None:
    """Before a picture is opened, also where upstream loads it and fails at the first one."""
    folder = shutil.copytree(checkpoint, copy)
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=r"^caption\.model_name"):
        load(kind, folder)


@each(KINDS)
@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"]
)
def test_an_incomplete_folder_is_refused(
    kind: Kind, missing: str, checkpoint: Path, tmp_path: Path
) -> None:
    refused(kind, missing, checkpoint, tmp_path / "incomplete")


@each(VIDEO)
def test_a_folder_without_a_chat_template_is_refused(
    kind: Kind, checkpoint: Path, tmp_path: Path
) -> None:
    refused(kind, "chat_template.jinja", checkpoint, tmp_path / "incomplete")
