import pytest

from common.core import yaml_io
from common.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1e5", 1e5),
        ("3", 3),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("none", "none"),
        ("12:30", "12:30"),
        ("null", None),
        ("true", True),
        ("'01'", "01"),
    ],
)
def test_plain_values_are_yaml_1_2(text, value):
    found = yaml_io.parse(f"key: {text}", "F")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'found duplicate key "a"'),
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
    ],
)
def test_read_names_file_and_line(tmp_path, text, line, problem):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        yaml_io.read(path)
    assert f"{path}, line {line}," in str(raised.value)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["a: 2026-13-45", "a: !!int x", 'a: !!float ""', "a: \x01"])
def test_values_that_cannot_be_built_are_config_errors(text):
    with pytest.raises(ConfigError, match="F: not valid YAML"):
        yaml_io.parse(text, "F")


@pytest.mark.parametrize(("text", "found"), [("- a\n", "list"), ("", "NoneType"), ("word\n", "str")])
def test_read_wants_a_mapping(tmp_path, text, found):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"found {found}"):
        yaml_io.read(tmp_path / "x.yaml")


def test_read_says_what_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        yaml_io.read(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read"):
        yaml_io.read(tmp_path / "latin.yaml")


def test_dump_round_trip_and_order():
    value = {
        "z": "01",
        "a": ["no", "null", "2e-4", "true", "", " lead", "x: y", "# x", "a\nb", "2026-01-01", "~", "1:30"],
        "numbers": {"rate": 1e-05, "big": 1e22, "one": 1, "none": None, "yes": True},
        "text": "é – " + "long " * 60,
        "empty": {"list": [], "mapping": {}},
    }
    text = yaml_io.dump(value)
    assert yaml_io.parse(text, "F") == value
    assert [line[0] for line in text.splitlines() if line[0] not in " -"][:2] == ["z", "a"]


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (["training.epochs=1 method.r=8"], {"training.epochs": 1, "method.r": 8}),
        (["training.epochs=1", "method.r=8"], {"training.epochs": 1, "method.r": 8}),
        (["m=[query, key] n=1"], {"m": ["query", "key"], "n": 1}),
        (["m={a: 1, b: [x, y]}"], {"m": {"a": 1, "b": ["x", "y"]}}),
        (["m={a: 'v w'}"], {"m": {"a": "v w"}}),
        (["model='my models/bert' n=2e-4"], {"model": "my models/bert", "n": 2e-4}),
        (['model="a b"'], {"model": "a b"}),
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": None}),
        (["a=1\n  b=2\t"], {"a": 1, "b": 2}),
        ([""], {}),
        ([], {}),
    ],
)
def test_overrides(words, overrides):
    assert yaml_io.split_overrides(words) == overrides


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs"], "found 'epochs'; allowed is key=value"),
        (["=1"], "found '=1'"),
        (["a=1 b"], "found 'b'"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=[1, 2"], "unclosed quote or bracket"),
        (["a=1]"], "unclosed quote or bracket"),
        (["a='x y"], "unclosed quote or bracket"),
        (["a=x\\"], "No escaped character"),
        (["a={b: 1, b: 2}"], "SET a, line 1"),
    ],
)
def test_wrong_overrides(words, message):
    with pytest.raises(ConfigError) as raised:
        yaml_io.split_overrides(words)
    assert message in str(raised.value)
    assert str(raised.value).startswith("SET")


WORDS = [
    "word",
    "1",
    "true",
    "null",
    "two words",
    "it's",
    "[a, b]",
    "",
    "a\nb",
    "é",
    "a=b",
    "#x",
    'say "x"',
    "\\",
    " x ",
]
VALUES = [1, 0.001, True, None, ["query", "key"], ["1", 1], {"a": "b c"}, {}, []]


@pytest.mark.parametrize("value", WORDS + VALUES)
def test_an_override_word_is_read_as_what_it_means(value):
    word = yaml_io.override_word("a.b", value)
    found = yaml_io.split_overrides([f"{word} c=1"])
    assert found == {"a.b": value, "c": 1} and type(found["a.b"]) is type(value)


def test_an_override_that_cannot_be_written():
    with pytest.raises(ConfigError, match=r"'a.b': .* cannot be written as SET=a.b="):
        yaml_io.override_word("a.b", 'x" [y')
