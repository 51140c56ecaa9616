"""What does a .tflite file hold and take?"""

import collections

from effnet_tf.errors import InputError

from . import lines


def parts(path: str) -> list[tuple[str, list[str]]]:
    """Returns [(title, lines)] of all that is known of a .tflite file."""
    from effnet_tf.export import identify, runtimes
    from effnet_tf.export.tflite import flatbuffer

    model = identify.tflite_model(path)
    found = [
        ("Signatures", _signatures(model)),
        ("Takes", [lines.taken(lambda: runtimes.layout_of_tflite(path, model))]),
    ]
    for number in range(len(model.subgraphs)):
        found += _of_subgraph(model, number)
    entries = [flatbuffer.name(entry.name) for entry in model.metadata or []]
    return [
        *found,
        ("Delegation", [_delegation(path)]),
        ("Metadata", [", ".join(entries) or "none"]),
    ]


def _of_subgraph(model, number):
    from effnet_tf.export.tflite import flatbuffer

    title = []
    if len(model.subgraphs) > 1:
        title = [f"subgraph {number}"]
    counts = collections.Counter(flatbuffer.operator_names(model, number))
    yield "Operators", [*title, *lines.counted(counts)]
    yield "Tensors", [*title, *_tensors(model.subgraphs[number])]


def _delegation(path):
    from effnet_tf.export import runtimes

    try:
        taken, pieces, total = runtimes.delegation(path)
    except InputError as error:
        return str(error)
    in_pieces = f"{pieces} pieces"
    if pieces == 1:
        in_pieces = "1 piece"
    return f"XNNPACK takes {taken} of {total} operators, in {in_pieces}"


def _signatures(model):
    from effnet_tf.export.tflite import flatbuffer

    found = []
    for signature in model.signatureDefs or []:
        graph = model.subgraphs[signature.subgraphIndex]
        found.append(flatbuffer.name(signature.signatureKey))
        for arrow, side in (("", signature.inputs), ("-> ", signature.outputs)):
            found += [
                f"  {arrow}{flatbuffer.name(one.name)}: {_tensor(graph.tensors[one.tensorIndex])}"
                for one in side or []
            ]
    return found or ["none; the file takes and gives", *_ends(model.subgraphs[0])]


def _ends(graph):
    """Yields a line for each input and output of a subgraph."""
    from effnet_tf.export.tflite import flatbuffer

    for arrow, side in (("", graph.inputs), ("-> ", graph.outputs)):
        for number in side:
            tensor = graph.tensors[number]
            yield f"  {arrow}{flatbuffer.name(tensor.name)}: {_tensor(tensor)}"


def _tensor(tensor):
    from effnet_tf.export.tflite import flatbuffer

    shape = tensor.shapeSignature
    if shape is None:
        shape = tensor.shape
    if shape is None:
        shape = ()
    formula = ""
    scale = _scale(tensor)
    if len(scale) == 1:
        zero = int(tensor.quantization.zeroPoint[0])
        formula = f", stands for {scale[0]:.6g} x (value {-zero:+d})"
    return f"{lines.sides(shape)} {flatbuffer.type_name(tensor)}{formula}"


def _scale(tensor):
    """Returns the steps of a quantised tensor: one, or one for each channel; () of others."""
    if tensor.quantization is None or tensor.quantization.scale is None:
        return ()
    return tensor.quantization.scale


def _tensors(graph):
    """Returns the element types of the tensors, and how many are quantised in which way."""
    from effnet_tf.export.tflite import flatbuffer

    counts, ways = collections.Counter(), collections.Counter()
    for tensor in graph.tensors:
        counts[flatbuffer.type_name(tensor)] += 1
        scale = _scale(tensor)
        if len(scale) > 1:
            ways["per channel"] += 1
        elif len(scale) == 1:
            ways["per tensor"] += 1
    quantized = ", ".join(f"{count} {way}" for way, count in ways.items()) or "none"
    return [*lines.counted(counts), f"quantised: {quantized}"]
