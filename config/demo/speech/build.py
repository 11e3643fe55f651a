"""Makes the recordings of this folder, each with its subtitles: `python build.py`.

Voices of espeak-ng 1.51 read sentences about twenty products whose names are invented, so that no
model has heard them. Those in `held-out/` have other voices and other sentences.
"""

import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
RATE_HZ = 16_000
PAUSE_S = 0.5  # between two sentences
SENTENCES = 5  # of a recording
SIZE_PX = (192, 108)

NAMES = (
    *("Zorvane", "Quellix", "Brindolo", "Tavuxa", "Mirkodane", "Plexora", "Vandrilo", "Osquith"),
    *("Jambrel", "Kryptona", "Felmora", "Drovanta", "Sintubal", "Yarquist", "Ulmendra", "Glivorn"),
    *("Norvaxil", "Wemblico", "Hastiro", "Cazumbra"),
)
LEARNT = (
    "The new {} arrives on Monday.",
    "Please restart {} before lunch.",
    "Our team has moved from {} to {}.",
    "She asked me whether {} works offline.",
    "I would rather buy {} than {}.",
    "The price of {} went up again.",
    "Nobody in the office understands {}.",
    "You can connect {} with {} by a cable.",
    "We sold nine copies of {} last week.",
    "Has anybody seen the box of {}?",
    "Most of our customers still use {}.",
    "They compared {} and {} for a month.",
    "Turn off {} when you leave the room.",
    "The manual of {} is too long.",
    "My brother repaired {} in an hour.",
    "Without {} the machine will not start.",
)
HELD_OUT = (
    "Yesterday {} was faster than {}.",
    "Write the word {} on the door.",
    "The doctor told us about {}.",
    "Have you ever tried {} at home?",
    "We will replace {} by {} in June.",
    "A friend of mine builds {}.",
    "The battery of {} is empty.",
    "He explained {} to the children.",
)
LEARNT_VOICES = (
    *("en-us+m1", "en-gb+f2", "en-us+f3", "en-gb-x-rp+m2", "en-gb-scotland+m3"),
    *("en-us+m4", "en-gb+f1", "en-gb-x-gbclan+m5", "en-us+f4", "en-029+m6"),
)
HELD_OUT_VOICES = ("en-us+m7", "en-gb+m8", "en-us+f5", "en-gb-x-rp+f2", "en-gb-scotland+m1")


@dataclass(frozen=True)
class Sentence:
    """A sentence and when it is said, in seconds."""

    text: str
    start: float
    end: float


def main() -> None:
    """Make 20 recordings to learn from, two by each voice, and 5 that are held out."""
    for number, voice in enumerate(LEARNT_VOICES * 2):
        make(HERE / "learnt" / f"{number:02d}.mp4", voice, texts(LEARNT, number * SENTENCES))
    for number, voice in enumerate(HELD_OUT_VOICES):
        make(HERE / "held-out" / f"{number:02d}.mp4", voice, texts(HELD_OUT, number * SENTENCES))
    (HERE / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")


def texts(sentences: tuple[str, ...], first: int) -> list[str]:
    """Return the sentences of a recording; every name comes as often as the others."""
    made = []
    for number in range(first, first + SENTENCES):
        sentence = sentences[number % len(sentences)]
        name = number + number // len(NAMES) * 3  # other names for a sentence that comes again
        pair = NAMES[name % len(NAMES)], NAMES[(name + 7) % len(NAMES)]
        made.append(sentence.format(*pair))
    return made


def make(path: Path, voice: str, said: list[str]) -> None:
    """Write a recording, and beside it what is said in it."""
    path.parent.mkdir(exist_ok=True)
    pieces, sentences, seconds = [], [], 0.0
    for text in said:
        sound = spoken(text, voice)
        sentences.append(Sentence(text, seconds, seconds + len(sound) / RATE_HZ))
        pieces += [sound, np.zeros(int(PAUSE_S * RATE_HZ), np.int16)]
        seconds += (len(sound) + len(pieces[-1])) / RATE_HZ
    write(path, np.concatenate(pieces), f"{path.parent.name} {path.stem}\n{voice}")
    cues = (
        f"{number}\n{clock(one.start)} --> {clock(one.end)}\n{one.text}\n"
        for number, one in enumerate(sentences, 1)
    )
    path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")


def spoken(text: str, voice: str) -> np.ndarray:
    """Return what a voice says, 16-bit samples of shape (samples,) at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", "160", "-w", path, text], check=True)
        with wave.open(str(path)) as file:
            rate, samples = file.getframerate(), np.frombuffer(file.readframes(-1), np.int16)
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
    frame.sample_rate = rate
    made = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([one.to_ndarray()[0] for one in made])


def write(path: Path, sound: np.ndarray, title: str) -> None:
    """Write the sound below a picture that says whose it is."""
    card = Image.new("RGB", SIZE_PX, "#204060")
    ImageDraw.Draw(card).text((12, 36), title, "white")
    with av.open(str(path), "w") as file:
        picture = file.add_stream("libx264", 1, options={"crf": "30"})
        picture.width, picture.height, picture.pix_fmt = *SIZE_PX, "yuv420p"
        voice = file.add_stream("aac", RATE_HZ, layout="mono", bit_rate=32_000)
        for _ in range(len(sound) // RATE_HZ + 1):
            file.mux(picture.encode(av.VideoFrame.from_image(card)))
        file.mux(picture.encode(None))
        for at in range(0, len(sound), 1024):
            frame = av.AudioFrame.from_ndarray(sound[None, at : at + 1024], "s16", "mono")
            frame.sample_rate, frame.pts = RATE_HZ, at
            file.mux(voice.encode(frame))
        file.mux(voice.encode(None))


def clock(seconds: float) -> str:
    """Return a time as SRT spells it."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"


if __name__ == "__main__":
    main()
