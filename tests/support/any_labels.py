"""Any labels that a dataset's YAML may have, as a strategy of hypothesis."""

from collections.abc import Sequence

from hypothesis import strategies as st

from common.config.label_values import Label, label_text

ODD = st.sampled_from(
    ["$", "$\\foo$", "$a_$", "|", "'", '"', "[x]", "{y}", "#", "null", "None", "nan", "01", "1.0", "~"]
)
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8)
LABELS = st.lists(st.one_of(ODD, WORDS, st.integers(-(10**9), 10**9)), min_size=2, max_size=6, unique_by=label_text)


def usable(labels: Sequence[Label]) -> bool:
    """Return whether no label is empty."""
    return all(str(label).strip() for label in labels)


def as_read(labels: Sequence[Label]) -> list[Label]:
    """Return labels as a dataset has them: in Unicode's form NFC."""
    return [label if isinstance(label, int) else label_text(label) for label in labels]
