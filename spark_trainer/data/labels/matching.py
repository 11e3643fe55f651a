"""Videos, found by what others call them: an id, or a path that ends as one of theirs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from spark_trainer.data.sample import Unusable

Parts = tuple[str, ...]


class Named:
    """Videos by their names.

    Args:
        names: the hash of a video, and a path of it; a video may have several.
        whole: two paths are those of one video only if the shorter one is the end of the other,
            `clips/a.mp4` of `/data/clips/a.mp4`; else most parts in common from the end decide.
    """

    def __init__(self, names: Iterable[tuple[str, str]], whole: bool) -> None:
        self._whole = whole
        self._by_stem: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._ids = set[str]()
        for video, name in names:
            self._ids.add(video)
            self._by_stem[stem(name.rpartition("/")[2])].append((video, name))

    def find(self, wanted: str) -> str | None:
        """Return the hash of the video that a path or an id means; the ending may be missing.

        Raises:
            Unusable: it may be several.
        """
        parts = _parts(wanted)
        if wanted in self._ids or not parts:
            return wanted if parts else None
        best, most = set[str](), 0
        for video, known in self._candidates(parts[-1]):
            common = _common_end(parts, known)
            if self._whole and common < min(len(parts), len(known)):
                continue
            if common > most:
                best, most = {video}, common
            elif common == most and common:
                best.add(video)
        if len(best) > 1:
            raise Unusable(f"{wanted} is {len(best)} videos: {', '.join(sorted(best)[:2])} …")
        return next(iter(best), None)

    def _candidates(self, last: str) -> Iterator[tuple[str, Parts]]:
        """Yield the videos whose name is this, or is this without its ending."""
        for video, name in self._by_stem.get(stem(last), ()):
            if (known := _parts(name))[-1] == last:
                yield video, known
        for video, name in self._by_stem.get(last, ()):
            known = _parts(name)
            yield video, (*known[:-1], last)


def stem(name: str) -> str:
    """Return a name without its ending."""
    before, dot, _ = name.rpartition(".")
    return before if dot and before else name


def _parts(path: str) -> Parts:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def _common_end(some: Parts, others: Parts) -> int:
    """Count the last parts of two paths that are the same."""
    count = 0
    for one, other in zip(reversed(some), reversed(others), strict=False):
        if one != other:
            break
        count += 1
    return count
