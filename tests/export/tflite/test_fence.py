"""effnet_tf/export/tflite/ fences what only TFLite files need: tf.lite, its schema, flatbuffers."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[3]
FENCED = ROOT / "effnet_tf" / "export" / "tflite"
SOURCES = [
    ROOT / "train_tpu.py",
    *(ROOT / "effnet_tf").rglob("*.py"),
    *(ROOT / "export").glob("*.py"),
]


def reached(path):
    """Yields the modules and attributes of TensorFlow Lite that a file names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "lite":
            yield "tf.lite"


def is_of_tflite(name):
    return name.startswith(("flatbuffers", "tf.lite", "tensorflow.lite"))


def test_nothing_outside_reaches_tf_lite():
    for path in SOURCES:
        if not path.is_relative_to(FENCED):
            assert not list(filter(is_of_tflite, reached(path))), path


def test_the_fence_sees_what_is_inside():
    found = {name for path in FENCED.glob("*.py") for name in reached(path) if is_of_tflite(name)}
    assert {"tf.lite", "flatbuffers"} < found
