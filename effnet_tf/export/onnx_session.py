"""How is an ONNX file opened, to run it or to read what it says about itself?

By onnxruntime, of the extra [onnx]. To recognise such a file takes no package: identify.py.
"""

from typing import Any

from effnet_tf import extras, local_files
from effnet_tf.errors import InputError, first_line

LIMIT = (1 << 31) - 1  # bytes of a protocol buffer


def opened(path: str, purpose: str) -> Any:
    """Returns an `onnxruntime.InferenceSession` of a file, on the CPU.

    Args:
        path: of the .onnx file.
        purpose: what needs onnxruntime, the beginning of the sentence if it is missing.

    Raises:
        InputError: onnxruntime cannot open the file.
        MissingPackage: onnxruntime is not installed.
    """
    onnxruntime = extras.load("onnxruntime", purpose)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in the exception, too
    try:
        return onnxruntime.InferenceSession(
            _for_library(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has kinds of its own
        raise InputError(f"'{path}' cannot be opened: {first_line(error)}.") from error


def metadata(path: str) -> dict[str, str]:
    """Returns the metadata properties of an ONNX file.

    Raises:
        InputError: onnxruntime cannot open the file.
        MissingPackage: onnxruntime is not installed.
    """
    session = opened(path, f"Reading what '{path}' says about itself")
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise InputError(f"The metadata of '{path}' are damaged: {first_line(error)}.") from error


def _for_library(path):
    """Returns a path, or the content where its name is not UTF-8, which C++ cannot open."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return local_files.read(path, LIMIT)
