"""Measures of generated texts against references, against each other, and against pictures.

BLEU is sacrebleu's. ROUGE-L and CIDEr are taken over words: sacrebleu's 13a tokens in lower case,
without punctuation. In a language written without spaces a phrase counts as one word, and the
values mean little.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from rapidfuzz.distance import Indel
from sacrebleu.metrics.bleu import BLEU

LONGEST = 4  # words of the longest n-gram, in BLEU and in CIDEr
LENGTHS = range(1, LONGEST + 1)
SIGMA = 6.0  # words of difference in length that cost little, in CIDEr

Ngram = tuple[str, ...]


def scores(generated: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Compute the metrics of texts against their references; an empty text has nothing in common.

    - `bleu`, 0 to 100: BLEU-4 of the whole corpus (Papineni et al. 2002), in sacrebleu's words
      `nrefs:1|case:lc|eff:yes|tok:13a|smooth:exp`. `eff:yes`: where no generated text has four
      tokens, it is taken over the n-grams that there are, instead of being 0.
    - `rouge_l`, 0 to 1: mean F1 of the longest common subsequence of words (Lin 2004).
    - `cider`, 0 to 10: mean CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726). N-grams that are in
      every reference count nothing, so with a single reference it is 0, and with few it is coarse.
      A text of fewer than four words stays below 10 even where it equals its reference.

    Raises:
        ValueError: no texts, or not as many as references.
    """
    if not generated or len(generated) != len(references):
        raise ValueError(f"{len(generated)} generated texts for {len(references)} references")
    said, wanted = list(map(words, generated)), list(map(words, references))
    return {
        "bleu": _bleu().corpus_score(generated, [references]).score,
        "rouge_l": sum(map(_rouge_l, said, wanted)) / len(said),
        "cider": Cider(references).sum(said, wanted) / len(said),
    }


def bleu(said: str, wanted: str) -> float:
    """Return BLEU-4 of one text, 0 to 100, as `scores` computes it."""
    return float(_bleu().sentence_score(said, [wanted]).score)


def rouge_l(said: str, wanted: str) -> float:
    """Return ROUGE-L of one text, 0 to 1, as `scores` computes it."""
    return _rouge_l(words(said), words(wanted))


class Cider:
    """CIDEr-D of single texts, 0 to 10; see `scores`.

    Args:
        references: all texts in which is counted how rare an n-gram is.
    """

    def __init__(self, references: Iterable[str]) -> None:
        wanted = list(map(words, references))
        self._num_clips = len(wanted)
        self._clips_with = [
            Counter(ngram for one in wanted for ngram in _ngrams(one, length)) for length in LENGTHS
        ]

    def score(self, said: str, wanted: str) -> float:
        """Return the score of a text against its reference."""
        return self.sum([words(said)], [words(wanted)])

    def sum(self, said: Sequence[list[str]], wanted: Sequence[list[str]]) -> float:
        """Add up the scores of texts; n-gram counts are not divided by length, as in COCO's."""
        total = 0.0
        for length, clips_with in zip(LENGTHS, self._clips_with, strict=True):
            for own, reference in zip(said, wanted, strict=True):
                weighted = (
                    _weighted(_ngrams(one, length), clips_with, self._num_clips)
                    for one in (own, reference)
                )
                off = len(own) - len(reference)
                total += math.exp(-(off**2) / (2 * SIGMA**2)) * _clipped_cosine(*weighted)
        return 10 * total / LONGEST


def agreement(texts: Sequence[str]) -> list[float]:
    """Return each text's agreement with the others: its mean ROUGE-L with them, 0 to 1."""
    said = list(map(words, texts))
    return [
        sum(_rouge_l(own, other) for j, other in enumerate(said) if j != i) / max(1, len(said) - 1)
        for i, own in enumerate(said)
    ]


class ClipScore:
    """CLIPScore without references (Hessel et al. 2021, arXiv:2104.08718), the mean over frames.

    Args:
        name: hub id or local folder of a CLIP checkpoint.
        revision: revision of a hub id.
        device: `cuda` or `cpu`.
        threads: cores on a CPU.
    """

    WEIGHT = 2.5  # the paper's w, which spreads usual values over 0 to 1

    def __init__(self, name: str, revision: str, device: str, threads: int) -> None:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        torch.set_num_threads(threads)
        self._processor = CLIPProcessor.from_pretrained(name, revision=revision)
        model = CLIPModel.from_pretrained(name, revision=revision, use_safetensors=True)
        self._model = model.eval().to(device)

    def __call__(self, frames: Sequence[Path], text: str) -> float:
        """Return the mean over the frames of 2.5 · max(cos(text, frame), 0); a long text is cut.

        Raises:
            OSError: a frame can't be read.
        """
        import torch
        from PIL import Image

        images = []
        for frame in frames:
            with Image.open(frame) as image:
                images.append(image.convert("RGB"))
        inputs = self._processor(text=[text], images=images, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            outputs = self._model(**inputs.to(self._model.device))
        cosines_T = outputs.image_embeds @ outputs.text_embeds[0]  # both of length 1
        return self.WEIGHT * float(cosines_T.clamp(min=0).mean())


def words(text: str) -> list[str]:
    """Return the words of a text as ROUGE-L and CIDEr take them."""
    tokens = _bleu().tokenizer(text.lower()).split()
    return [token for token in tokens if any(map(str.isalnum, token))]


@cache
def _bleu() -> BLEU:
    return BLEU(lowercase=True, effective_order=True, max_ngram_order=LONGEST)


def _rouge_l(said: list[str], wanted: list[str]) -> float:
    """Compute F1 = 2 · LCS / (words said + words wanted), which is the Indel similarity."""
    return Indel.normalized_similarity(said, wanted) if said and wanted else 0.0


def _ngrams(words: list[str], length: int) -> Counter[Ngram]:
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))


def _weighted(
    counts: Counter[Ngram], clips_with: Counter[Ngram], num_clips: int
) -> dict[Ngram, float]:
    """Weight counts by the log of how rare an n-gram is; one in no reference counts as in one."""
    return {
        ngram: count * math.log(num_clips / max(1, clips_with[ngram]))
        for ngram, count in counts.items()
    }


def _clipped_cosine(said: dict[Ngram, float], wanted: dict[Ngram, float]) -> float:
    """Compute a cosine in which n-grams beyond the reference's count add nothing."""
    norms = math.hypot(*said.values()) * math.hypot(*wanted.values())
    common = [ngram for ngram in said if ngram in wanted]  # a list: the same sum in every process
    dot = sum(min(said[ngram], wanted[ngram]) * wanted[ngram] for ngram in common)
    return dot / norms if norms else 0.0
