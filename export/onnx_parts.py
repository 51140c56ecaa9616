"""What does an ONNX file hold and take?"""

import collections

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line

from . import lines


def parts(path: str) -> list[tuple[str, list[str]]]:
    """Returns [(title, lines)] of all that is known of an ONNX file; needs the package onnx."""
    try:
        onnx = extras.load("onnx", "Showing them")
    except extras.MissingPackage as error:  # all else needs no package
        return [("Operators", [str(error)])]
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's, of its version
        raise InputError(f"'{path}' is a damaged ONNX file ({first_line(error)}).") from error
    found = []
    constants = {tensor.name for tensor in graph.initializer}
    for arrow, side in (("", graph.input), ("-> ", graph.output)):
        for value in side:
            if value.name not in constants:
                kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
                found.append(f"{arrow}{value.name}: {_shape(value)} {kind}")
    return [
        ("Signature", found),
        ("Operators", lines.counted(collections.Counter(node.op_type for node in graph.node))),
    ]


def _shape(value):
    sides = [dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
    return f"({', '.join(sides)})"
