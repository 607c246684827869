"""Find rows whose texts are nearly the same, by the character 5-grams that they share.

Two texts are near duplicates if they are equal without case, punctuation and spaces, or if the Jaccard similarity of
their sets of character 5-grams is at least 0.8. In a text of 100 characters one changed word keeps it above, two do
not. 0.8 is the threshold of Lee et al. 2022 ("Deduplicating Training Data Makes Language Models Better",
https://arxiv.org/abs/2107.06499). Of a pair of texts, both must be near: another claim with the same sentence is
another row. A short minimal pair such as "it is good" and "it is bad" lies below.

The search is a set similarity join with prefix filter (Bayardo et al. 2007, "Scaling Up All Pairs Similarity Search";
Xiao et al. 2008, "Efficient Similarity Joins for Near Duplicate Detection"): two sets that are similar share one of
their rarest members, so only such pairs are compared.

Of a row with more than 256 5-grams, the search compares those whose hashes are below a bound, which is lower the longer
the row is: 256 of them on average (Broder 1997, "On the resemblance and containment of documents", samples likewise). A
pair that the samples propose is then compared as a whole. Of pairs on the threshold, in which one text is the other and
an addition, one in fifty is missed; of those with a similarity of 0.85 one in 100,000.

Measured on one core: 9 CPU seconds and 0.8 GB for 100,000 sentences of 100 characters; four times that and 1 GB for
50,000 film reviews of 1,300 characters. For 10,000 such sentences MinHash (datasketch, 128 permutations) needed 29 CPU
seconds, and TF-IDF with scikit-learn's nearest neighbours 17, the latter growing with the square of the rows.
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
_SAMPLE = 256  # 5-grams of a row that are compared first; a pair is then compared as a whole
_SAMPLE_SHARE = 0.75  # of them that near duplicates share; on average it is 0.8 or more, with a deviation of 0.025
_SHARED, _SHARE = 3, 20  # rare 5-grams that two rows must share to be compared: 3, or a 20th of theirs
_BITS = 24  # of a hashed 5-gram
_MAX_COST = 10**9  # pairs of equal rare 5-grams; above it nearly all rows are alike
_BLOCK_COST = 10**7
_CHUNK = 20_000  # pairs
_CHUNK_CHARACTERS = 10**6


def without_punctuation(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts in lower case, with one space instead of punctuation and spaces.

    A text without letters and digits, such as ":-)", keeps its punctuation, but no NUL, which `_chunks` puts between
    texts.
    """
    return tuple(_words(text) or " ".join(text.casefold().replace("\0", " ").split()) for text in texts)


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
    """
    if len(texts) > MAX_ROWS:
        return None
    grams, totals = _gram_matrix(texts)
    sizes = np.diff(grams.indptr)
    least = np.minimum(np.maximum(_SHARED, sizes // _SHARE), sizes)  # shared rare 5-grams
    # A row of fewer 5-grams has no near duplicate that is sampled.
    shares = np.where(totals <= THRESHOLD * _SAMPLE, THRESHOLD, _SAMPLE_SHARE)
    prefixes = _prefixes(grams, sizes, least, shares)
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
            smaller, larger = np.minimum(totals[i], totals[j]), np.maximum(totals[i], totals[j])
            keep = (count >= np.minimum(least[i], least[j])) & (smaller >= THRESHOLD * larger)
            for one, other in _similar(grams, totals, i[keep], j[keep]):
                if similarity(texts[one], texts[other]) >= THRESHOLD:
                    found.append((one, other))
            progress.update(end - start)
    return sorted(found)


def _gram_matrix(texts: Sequence[tuple[str, ...]]) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return which row (N) has which 5-gram of its sample (2^24 hashes), and the number of all its 5-grams (N,).

    The rarest 5-grams are in the first columns.
    """
    sizes, totals, columns = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows in _chunks(texts):
        codes = np.frombuffer("".join(rows).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        count = len(codes) - _N + 1
        lengths = np.array([len(one) for one in rows])
        row = np.repeat(np.arange(len(rows)), lengths)[:count]
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
        owners, found = (
            (keys >> np.uint64(_BITS)).astype(np.int64),
            (keys & np.uint64((1 << _BITS) - 1)).astype(np.int64),
        )
        totals.append(np.bincount(owners, minlength=len(rows)))
        sampled = found < ((_SAMPLE << _BITS) // np.maximum(totals[-1], _SAMPLE))[owners]
        sizes.append(np.bincount(owners[sampled], minlength=len(rows)))
        columns.append(found[sampled])
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
    return matrix, np.concatenate(totals)


def _chunks(texts: Sequence[tuple[str, ...]]) -> Iterator[list[str]]:
    """Yield the rows, the texts of each joined by a character of no text, some of them at a time."""
    rows, characters = list[str](), 0
    for row in texts:
        rows.append("\0".join(text.ljust(_N) for text in row))
        characters += len(rows[-1])
        if characters >= _CHUNK_CHARACTERS:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows


def _prefixes(grams: sp.csr_matrix, sizes: np.ndarray, least: np.ndarray, shares: np.ndarray) -> sp.csr_matrix:
    """Return the rarest 5-grams of every row: enough that near duplicates share `least` (N) of them.

    Near duplicates share at least the fraction `shares` (N) of the `sizes` (N) 5-grams of a row.
    """
    lengths = np.minimum(sizes - np.ceil(shares * sizes - 1e-9).astype(np.int64) + least, sizes)
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


def _similar(grams: sp.csr_matrix, totals: np.ndarray, i: np.ndarray, j: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield those pairs whose sets of 5-grams reach the threshold, or whose samples make it possible."""
    sizes = np.diff(grams.indptr)
    for start in range(0, len(i), _CHUNK):
        a, b = i[start : start + _CHUNK], j[start : start + _CHUNK]
        both = np.asarray(grams[a].multiply(grams[b]).sum(axis=1)).ravel()
        whole = np.maximum(totals[a], totals[b]) <= _SAMPLE
        needed = np.where(
            whole, THRESHOLD * (sizes[a] + sizes[b] - both), _SAMPLE_SHARE * np.maximum(sizes[a], sizes[b])
        )
        near = both >= needed - 1e-6
        yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def how_compared(found: Mapping[str, Any]) -> str:
    """Return in brackets that near duplicates were not looked for; "" where they were.

    Args:
        found: "near_duplicates" of `leaks.find_leaks`.
    """
    if found["searched"]:
        return ""
    return " (too many rows or too much alike: only texts equal up to punctuation were looked for)"
