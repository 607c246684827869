"""Cells of a spreadsheet: dates as the sheet shows them, cells without a value, which are refused, escapes of xlsx."""

import datetime
import re
from typing import Any

_TOKEN = re.compile(
    r"\"[^\"]*\"|\\.|\[[^\]]*\]|yyyy|yy|mmmmm|mmmm|mmm|mm|m|dddd|ddd|dd|d|hh|h|ss|s|am/pm|a/p|_.|\*.|.", re.IGNORECASE
)
# What a spreadsheet shows for these depends on the country that it is set to.
# The first date is named in two ways: by openpyxl, and by xlrd.
_BY_COUNTRY = ("general", "mm-dd-yy", "m/d/yy", "m/d/yy h:mm", "m/d/yyyy")
_MONTHS = [
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


# ST_Xstring of ECMA-376 part 1, 22.9.2.19: `_xHHHH_` is a character, and `_x005F_` an underscore before what looks so.
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
_UNDERSCORE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")  # with the carriage return, which XML makes a line feed


def escape_xlsx(text: str) -> str:
    """Return a text as a cell of an xlsx file holds it: characters that XML lacks become `_xHHHH_`."""
    return _NOT_IN_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", _UNDERSCORE.sub("_x005F_", text))


def unescape_xlsx(text: str) -> str:
    """Return the text of a cell of an xlsx file, as `escape_xlsx` writes it; half characters stay escapes."""

    def character(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return found[0] if 0xD800 <= code < 0xE000 else chr(code)

    return _ESCAPED.sub(character, text) if "_x" in text else text


class BrokenCell(str):
    """A cell without a value; as a string what the sheet shows.

    Attributes:
        problem: what it holds, and what to do about it in the spreadsheet program.
    """

    problem: str

    __slots__ = ("problem",)

    def __new__(cls, shown: str, problem: str) -> "BrokenCell":
        """Return a cell; see the class."""
        cell = super().__new__(cls, shown)
        cell.problem = problem
        return cell


def error_cell(shown: str, place: str) -> BrokenCell:
    """Return a cell with an error: what it shows, and where it is, such as "C2"."""
    return BrokenCell(shown, f"cell {place} shows the error {shown}; correct it in the spreadsheet")


def formula_cell(place: str) -> BrokenCell:
    """Return a cell whose formula has no saved value: where it is, such as "C2"."""
    return BrokenCell(
        "",
        f"cell {place} holds a formula without a saved value; open the file in a spreadsheet program and save it, or "
        "replace the formulas by their values",
    )


class ShownDate(datetime.datetime):
    """A date with its time; as a string what the sheet shows."""

    shown: str

    def __str__(self) -> str:
        return self.shown


class ShownTime(datetime.time):
    """A time of day; as a string what the sheet shows."""

    shown: str

    def __str__(self) -> str:
        return self.shown


def shown_date(value: datetime.datetime | datetime.time, number_format: str) -> ShownDate | ShownTime:
    """Return a date or time that reads as its sheet shows it.

    Args:
        value: of the cell.
        number_format: of the cell, such as "dd.mm.yyyy".
    """
    result: ShownDate | ShownTime
    if isinstance(value, datetime.datetime):
        result = ShownDate(
            *(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
        )
    else:
        result = ShownTime(value.hour, value.minute, value.second, value.microsecond)
    result.shown = _show(value, number_format)
    return result


def _show(value: datetime.datetime | datetime.time, number_format: str) -> str:
    code = number_format.split(";")[0]
    if code.lower() in _BY_COUNTRY or "[$-f800]" in code.lower() or "[$-f400]" in code.lower():
        return _iso(value)
    tokens = [token for token in _TOKEN.findall(code) if not token.startswith(("[", "_", "*"))]
    lower = [token.lower() for token in tokens]
    if isinstance(value, datetime.time) and any(token[0] in "yd" for token in lower):
        return _iso(value)
    is_afternoon_marked = any(token in ("am/pm", "a/p") for token in lower)
    shown = []
    for place, token in enumerate(lower):
        kinds = [other for other in lower[:place] if other[0] in "yhds"][-1:]
        following = [other for other in lower[place + 1 :] if other[0] in "ymhds"][:1]
        is_minute = token in ("m", "mm") and (kinds in (["h"], ["hh"]) or following in (["s"], ["ss"]))
        shown.append(_part(value, "minute" if is_minute else token, tokens[place], is_afternoon_marked))
    return "".join(shown)


def _iso(value: datetime.datetime | datetime.time) -> str:
    """Return "2024-01-05", with a time that is not midnight "2024-01-05 10:30:00"."""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value.replace(microsecond=0))


def _part(value: Any, token: str, written: str, is_afternoon_marked: bool) -> str:
    if token[0] in "hs" or token in ("minute", "am/pm", "a/p"):
        hour = (value.hour % 12 or 12) if is_afternoon_marked else value.hour
        number = {"h": hour, "m": value.minute, "s": value.second}.get(token[0])
        if number is None:
            return ("AM", "PM")[value.hour >= 12][: len(token) // 2]
        return f"{number:02d}" if len(token) == 2 or token.startswith("mi") else str(number)
    if token[0] in "ymd" and isinstance(value, datetime.datetime):
        if token[0] == "y":
            return f"{value.year:04d}" if len(token) == 4 else f"{value.year % 100:02d}"
        names, number = (_MONTHS, value.month) if token[0] == "m" else (_DAYS, value.day)
        if len(token) > 2:
            name = names[number - 1] if token[0] == "m" else names[value.weekday()]
            return {3: name[:3], 4: name, 5: name[0]}[len(token)]
        return f"{number:02d}" if len(token) == 2 else str(number)
    return written.strip('"') if written.startswith('"') else written.removeprefix("\\")
