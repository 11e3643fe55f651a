"""Videos, found by what others call them: an id, or a path that ends as one of theirs."""

from collections import defaultdict
from collections.abc import Iterable

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
        self._by_last: dict[str, dict[tuple[str, Parts], None]] = defaultdict(dict)
        for video, name in names:
            parts = _parts(name)
            self._by_last[video][video, (video,)] = None
            self._by_last[parts[-1]][video, parts] = None
            self._by_last[stem(parts[-1])][video, (*parts[:-1], stem(parts[-1]))] = None

    def find(self, wanted: str) -> str | None:
        """Return the hash of the video that a path or an id means.

        Raises:
            Unusable: it may be several.
        """
        parts = _parts(wanted)
        common = {
            (video, known): _common_end(parts, known)
            for video, known in self._by_last.get(parts[-1] if parts else "", ())
        }
        if self._whole:
            common = {
                one: count for one, count in common.items() if count == min(len(parts), len(one[1]))
            }
        most = max(common.values(), default=0)
        best = {video for (video, _), count in common.items() if count == most}
        if len(best) > 1:
            raise Unusable(f"{wanted} is {len(best)} videos: {', '.join(sorted(best)[:2])} …")
        return next(iter(best), None)


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
