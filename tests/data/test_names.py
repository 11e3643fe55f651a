"""Folders named after files: none shared on any file system, none that is a file of our own."""

import itertools
import unicodedata

import pytest

from spark_trainer.data.layout import OURS
from spark_trainer.data.names import folders


def named(*stems: str) -> list[str]:
    """The folders of videos of these names; their hashes are 000…, 111…, 222…."""
    hashes = {f"{number:x}" * 64: stem for number, stem in enumerate(stems)}
    return list(folders(hashes).values())


def test_a_name_of_its_own_is_the_folder() -> None:
    stems = ["dog", "Cat", "ärger", "two words", "con", "a.b", "日本", "caf\udce9"]
    assert named(*stems) == stems


def test_a_shared_name_gets_the_start_of_the_hash() -> None:
    assert named("dog", "cat", "dog") == ["dog-" + "0" * 12, "cat", "dog-" + "2" * 12]


@pytest.mark.parametrize("own", [*OURS, "Encoded", "REPORT.HTML"])
def test_our_own_files_are_nobodys_folder(own: str) -> None:
    assert named(own, "dog") == [f"{own}-{'0' * 12}", "dog"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog", "DOG"),
        ("straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("dog", "dog."),
        ("dog", "Dog .."),
    ],
)
def test_names_that_a_file_system_may_take_for_one_are_told_apart(one: str, other: str) -> None:
    assert named(one, other) == [f"{one}-{'0' * 12}", f"{other}-{'1' * 12}"]


def test_no_two_folders_are_one_on_any_file_system() -> None:
    """Also where a name looks like another one with its hash."""
    parts = ["dog", "Dog", "encoded", "e\u0301", "\u00e9", *OURS]
    stems = [*parts, *(f"{part}-{digit * 12}" for part in parts for digit in "0123456789")]
    hashes = {f"{number:02x}" * 32: stem for number, stem in enumerate(stems)}
    hashes |= {f"{digit}" * 64: "dog" for digit in "0123456789"}
    chosen = folders(hashes)
    assert chosen.keys() == hashes.keys()
    folded = [unicodedata.normalize("NFC", name).casefold() for name in chosen.values()]
    assert not [a for a, b in itertools.pairwise(sorted([*folded, *OURS])) if a == b]


def test_a_name_stays_short_enough() -> None:
    long = "ä" * 127
    assert all(len(name.encode()) <= 255 for name in named(long, long.upper()))
