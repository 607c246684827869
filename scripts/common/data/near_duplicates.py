"""Find rows whose texts are nearly the same, by the character 5-grams that they share.

Two texts are near duplicates if they are equal without case, punctuation and spaces, or if the Jaccard similarity of
their sets of character 5-grams is at least 0.8. In a text of 100 characters one changed word keeps it above, two do
not. 0.8 is the threshold of Lee et al. 2022 ("Deduplicating Training Data Makes Language Models Better",
https://arxiv.org/abs/2107.06499). Of a pair of texts, both must be near: another claim with the same sentence is
another row. A short minimal pair such as "it is good" and "it is bad" lies below.

The search is a set similarity join with prefix filter (Bayardo et al. 2007, "Scaling Up All Pairs Similarity Search";
Xiao et al. 2008, "Efficient Similarity Joins for Near Duplicate Detection"): two sets that are similar share one of
their rarest members, so only such pairs are compared.

Measured on one core: 9 CPU seconds and 0.8 GB for 100,000 sentences of 100 characters; 17 and 1 GB for 50,000 film
reviews of 1,300 characters. For 10,000 such sentences MinHash (datasketch, 128 permutations) needed 29 CPU seconds, and
TF-IDF with scikit-learn's nearest neighbours 17, the latter growing with the square of the rows.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from common.core.progress import Progress

THRESHOLD = 0.8
MAX_ROWS = 200_000  # different texts; more are not compared
_N = 5  # characters
HEAD = 200  # characters of each text by which rows are compared first; a pair is then compared as a whole
_SHARED, _SHARE = 3, 20  # rare 5-grams that two rows must share to be compared: 3, or a 20th of theirs
_BITS = 24  # of a hashed 5-gram
_MAX_COST = 10**9  # pairs of equal rare 5-grams; above it nearly all rows are alike
_BLOCK_COST = 10**7
_CHUNK = 5_000  # rows


def without_punctuation(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts in lower case, with one space instead of punctuation and spaces.

    A text without letters and digits, such as ":-)", keeps its punctuation.
    """
    return tuple(_words(text) or " ".join(text.casefold().split()) for text in texts)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def similarity(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the smallest Jaccard similarity, in [0, 1], of the texts of two rows, each text with its counterpart."""
    return min(_jaccard(a, b) for a, b in zip(one, other, strict=True))


def _jaccard(one: str, other: str) -> float:
    first, second = _grams(one), _grams(other)
    return len(first & second) / len(first | second)


def _grams(text: str) -> set[str]:
    return {text[place : place + _N] for place in range(max(len(text) - _N + 1, 1))}


def find_near_pairs(texts: Sequence[tuple[str, ...]]) -> list[tuple[int, int]] | None:
    """Return the pairs (i, j), i < j, of near duplicates, in ascending order; None where there is too much to compare.

    Args:
        texts: of the rows, all different, as `without_punctuation` returns them.

    Rows whose first 200 characters are not near duplicates are not compared further.
    """
    if len(texts) > MAX_ROWS:
        return None
    grams = _gram_matrix(texts)
    sizes = np.diff(grams.indptr)
    least = np.minimum(np.maximum(_SHARED, sizes // _SHARE), sizes)  # shared rare 5-grams
    prefixes = _prefixes(grams, sizes, least)
    rows_with = np.bincount(prefixes.indices, minlength=prefixes.shape[1]).astype(np.float64)
    # What a row costs: the rows that share each of its rare 5-grams.
    costs = np.add.reduceat(np.append(rows_with[prefixes.indices], 0), prefixes.indptr[:-1]) * (
        np.diff(prefixes.indptr) > 0
    )
    if costs.sum() > _MAX_COST:
        return None
    found: list[tuple[int, int]] = []
    transposed = prefixes.T.tocsr()
    with Progress("compare texts", len(texts), "row") as progress:
        for start, end in _blocks(costs):
            shared = (prefixes[start:end] @ transposed).tocoo()
            some = (shared.col > shared.row + start) & (shared.data >= least.min())
            i, j, count = shared.row[some] + start, shared.col[some], shared.data[some]
            smaller, larger = np.minimum(sizes[i], sizes[j]), np.maximum(sizes[i], sizes[j])
            keep = (count >= np.minimum(least[i], least[j])) & (smaller >= THRESHOLD * larger)
            for one, other in _similar(grams, sizes, i[keep], j[keep]):
                if similarity(texts[one], texts[other]) >= THRESHOLD:
                    found.append((one, other))
            progress.update(end - start)
    return sorted(found)


def _gram_matrix(texts: Sequence[tuple[str, ...]]) -> sp.csr_matrix:
    """Return which row (N) has which 5-gram (2^24 hashes), with the rarest 5-grams in the first columns."""
    sizes, columns = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _CHUNK):
        heads = ["\0".join(text[:HEAD].ljust(_N) for text in row) for row in texts[start : start + _CHUNK]]
        codes = np.frombuffer("".join(heads).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        count = len(codes) - _N + 1
        lengths = np.array([len(head) for head in heads])
        row = np.repeat(np.arange(len(heads)), lengths)[:count]
        breaks = np.cumsum(codes == 0)
        # The number of the text within its row: a 5-gram counts for its own text alone.
        hashes = (breaks[:count] - row * (len(texts[0]) - 1)).astype(np.uint64)
        for place in range(_N):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[place : count + place]
            hashes ^= hashes >> np.uint64(29)
        hashes = (hashes * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(64 - _BITS)
        inside = np.arange(count) + _N <= np.cumsum(lengths)[row]  # not across the end of a row
        inside &= (breaks[_N - 1 :] == breaks[:count]) & (codes[:count] != 0)  # nor of a text
        keys = np.sort((row[inside].astype(np.uint64) << np.uint64(_BITS)) | hashes[inside])
        keys = keys[np.append(True, keys[1:] != keys[:-1])]  # np.unique of NumPy 2.4 takes ten times as long
        sizes.append(np.bincount((keys >> np.uint64(_BITS)).astype(np.int64), minlength=len(heads)))
        columns.append((keys & np.uint64((1 << _BITS) - 1)).astype(np.int64))
    joined = np.concatenate(columns)
    rows_with = np.bincount(joined, minlength=1 << _BITS)
    present = np.flatnonzero(rows_with)
    rank = np.zeros(1 << _BITS, np.int32)
    rank[present[np.argsort(rows_with[present], kind="stable")]] = np.arange(len(present), dtype=np.int32)
    ends = np.cumsum(np.concatenate(sizes))
    matrix = sp.csr_matrix(
        (np.ones(len(joined), np.float32), rank[joined], ends), shape=(len(texts), max(len(present), 1))
    )
    matrix.sort_indices()
    return matrix


def _prefixes(grams: sp.csr_matrix, sizes: np.ndarray, least: np.ndarray) -> sp.csr_matrix:
    """Return the rarest 5-grams of every row: enough that near duplicates share `least` (N) of them."""
    lengths = np.minimum(sizes - np.ceil(THRESHOLD * sizes - 1e-9).astype(np.int64) + least, sizes)
    keep = np.arange(grams.nnz) - np.repeat(grams.indptr[:-1], sizes) < np.repeat(lengths, sizes)
    columns = grams.indices[keep]
    ends = np.append(0, np.cumsum(lengths))
    return sp.csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=grams.shape)


def _blocks(costs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of rows that are compared together, so that memory stays bounded."""
    start, total = 0, 0.0
    for place, cost in enumerate(costs):
        if total + cost > _BLOCK_COST and place > start:
            yield start, place
            start, total = place, 0.0
        total += cost
    if len(costs):
        yield start, len(costs)


def _similar(grams: sp.csr_matrix, sizes: np.ndarray, i: np.ndarray, j: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield those pairs whose sets of 5-grams reach the threshold."""
    for start in range(0, len(i), 4 * _CHUNK):
        a, b = i[start : start + 4 * _CHUNK], j[start : start + 4 * _CHUNK]
        both = np.asarray(grams[a].multiply(grams[b]).sum(axis=1)).ravel()
        near = both >= THRESHOLD * (sizes[a] + sizes[b] - both) - 1e-6
        yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def how_compared(found: Mapping[str, Any]) -> str:
    """Return what the search did not look at, in brackets; "" where it compared whole texts.

    Args:
        found: "near_duplicates" of `leaks.find_leaks`.
    """
    if not found["searched"]:
        return " (too many rows or too much alike: only texts equal up to punctuation were looked for)"
    if not found["heads_only"]:
        return ""
    return f" (of texts with more than {HEAD} characters only those whose first {HEAD} are nearly the same)"
