"""The values that YAML files give for labels, as a list or as the keys of a mapping; all in Unicode's form NFC."""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

Label = str | int


def label_text(label: Label) -> str:
    """Return a label as the text by which labels are compared: 3 is "3", and "é" is one character (NFC)."""
    return unicodedata.normalize("NFC", str(label))


def _check_label(label: Label) -> Label:
    if isinstance(label, int):
        return label
    if not label.strip():
        raise ValueError("a label is empty or has spaces alone: such a cell means that the label is missing")
    for character in label:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"a label contains the control character U+{ord(character):04X}")
    return label_text(label)


def _keys_as_text(value: Any) -> Any:
    """Return a mapping with labels as keys, with texts in place of integers; anything else is left to the schema."""
    if not isinstance(value, dict):
        return value
    named = [label_text(key) if isinstance(key, str) or type(key) is int else key for key in value]
    if repeated := [key for key in named if named.count(key) > 1]:
        raise ValueError(f"the label '{repeated[0]}' occurs twice")
    return dict(zip(named, value.values(), strict=True))


LabelValue = Annotated[Label, AfterValidator(_check_label)]
LabelKeys = BeforeValidator(_keys_as_text)  # of a `dict[str, …]`: `{0: bad}` means `{"0": bad}`
