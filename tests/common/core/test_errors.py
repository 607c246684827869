from common.core import errors

CLASSES = [
    errors.ConfigError,
    errors.DataError,
    errors.ModelError,
    errors.RunError,
    errors.ReportError,
    errors.Interrupted,
    errors.Superseded,
]


def test_exit_codes_differ():
    assert len({kind.exit_code for kind in CLASSES}) == len(CLASSES)
    assert all(kind.exit_code > 0 for kind in CLASSES)


def test_nearest():
    assert errors.nearest("epoch", ["epochs", "batch_size"]) == " Did you mean 'epochs'?"
    assert errors.nearest("zzz", ["epochs"]) == ""
    assert errors.nearest(1, [10, "x"]) == " Did you mean '10'?"


def test_choices_shortens_long_lists():
    assert errors.choices(["a", 1]) == "a, 1"
    assert errors.choices(range(14), limit=2) == "0, 1, … (14 in all)"
