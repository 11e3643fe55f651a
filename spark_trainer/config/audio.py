"""The sound tracks."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from spark_trainer.config.limits import Limited
from spark_trainer.config.section import Positive, ValueType


def _language_code(value: str) -> str:
    if not (2 <= len(value) <= 3 and value.isascii() and value.isalpha() and value.islower()):
        raise PydanticCustomError("language_code", "Input should be a code such as `eng`")
    return value


LanguageCode = Annotated[str, AfterValidator(_language_code)]


class Audio(Limited):
    """The sound track of each video as a WAV file."""

    MANIFEST: ClassVar[dict[str, ValueType]] = {
        "duration": "number",
        "damaged": "text",
        "no_audio": "text",
        "audio_duration": "number",
    }
    SHARED: ClassVar[tuple[str, ...]] = ("duration", "damaged")

    enabled: bool = Field(True, description="Extract audio.")
    sample_rate: int = Field(16000, ge=8000, le=192000, description="Samples per second.")
    channels: Literal[1, 2] = Field(1, description="1 mixes down to mono, 2 gives stereo.")
    track: Literal["default"] | Annotated[int, Field(ge=0)] | LanguageCode = Field(
        "default",
        description="Which audio track: `default` takes the one that the file marks as default, "
        "else the first; a number counts the audio tracks from 0; a code such as `eng` or `deu` "
        "takes the track with this language code.",
    )
    other_tracks: bool = Field(
        False,
        description="Extract other tracks too, as `audio.<number>.wav`; each gets a transcript.",
    )
    max_silence_s: Positive = Field(
        600.0,
        description="Most seconds of silence to add where a track starts late or has gaps; a track "
        "that needs more is not used.",
    )
