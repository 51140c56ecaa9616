"""What a person reads of an exception, and of a name."""

import pytest
import tensorflow as tf

from effnet_tf import errors
from tests.helpers import hostile


class TestFirstLine:
    @pytest.mark.parametrize(
        "error, line",
        [
            (ValueError("one.\ntwo"), "one"),
            (ValueError(""), "ValueError"),
            (ValueError("\n \n"), "ValueError"),
            (ValueError("\n\nafter blank lines."), "after blank lines"),
            (KeyError("name"), "'name'"),
            (
                RuntimeError("Graph execution error:\n\nDetected at node Conv2D\nbad shape"),
                "bad shape",
            ),
            (
                RuntimeError(
                    "Graph execution error:\n\nDetected at node A defined at (most recent call "
                    'last):\n  File "a.py", line 8, in <module>\n\nConnection reset by peer'
                ),
                "Connection reset by peer",
            ),
            (
                RuntimeError("tensorflow/lite/kernels/conv.cc:343 input->dims->size != 4 (3 != 4)"),
                "input->dims->size != 4 (3 != 4)",
            ),
            (RuntimeError("{{function_node __wrapped__A_device_/job:x}} no [Op:A] name: "), "no"),
            (
                OSError(2, "No such file or directory", "a/b.cfg"),
                "[Errno 2] No such file or directory: 'a/b.cfg'",
            ),
            # zipfile shows all of a damaged directory.
            (ValueError(f"header {'x' * 5000} differs"), f"header {'x' * 293} ..."),
        ],
    )
    def test_of_an_exception(self, error, line):
        assert errors.first_line(error) == line

    def test_of_tensorflow(self, tmp_path):
        with pytest.raises(tf.errors.NotFoundError) as caught:
            tf.io.read_file(str(tmp_path / "none"))
        assert errors.first_line(caught.value) == f"{tmp_path}/none; No such file or directory"


class TestPrintable:
    @pytest.mark.parametrize("name", [*hostile.NAMES, hostile.NOT_UTF8])
    def test_any_name_is_one_line_without_controls(self, name):
        shown = errors.printable(name)
        assert shown.isprintable() and shown.encode("utf-8")

    @pytest.mark.parametrize(
        "text, shown",
        [
            ("grün 日本語 🐈 $\\frac{$", "grün 日本語 🐈 $\\frac{$"),
            ("\x1b[31m", "\\x1b[31m"),
            ("a\nb\r\t", "a\\nb\\r\\t"),
            ("\u202e", "\\u202e"),
            (hostile.NOT_UTF8, "caf\\xe9"),
            ("\ud800", "\\ud800"),
            ("\x9b", "\\x9b"),
        ],
    )
    def test_what_is_shown(self, text, shown):
        assert errors.printable(text) == shown
