"""The program `inspect`: what an exported file is, holds and expects."""

import collections

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line, printable

_WIDTH = 14  # of the column of titles
_PLACES = 3  # of one kind of operation that are shown


def add_program(programs):
    """Adds the program to the parser's subcommands."""
    text = "say what an exported file is, holds and expects"
    parser = programs.add_parser("inspect", help=text, description=text)
    parser.add_argument(
        "file", help="a .tflite or .onnx file or SavedModel, of this program or of others"
    )
    parser.set_defaults(run=inspect)


def inspect(options):
    """Prints everything that can be known of a file without images."""
    from effnet_tf.export import checksum, identify, staging

    path = options.file
    kind = identify.kind(path)
    compared = checksum.check(path)
    parts = _parts(path, kind)
    print(f"{printable(path)}: {kind}, {staging.size(path) / 1e6:.2f} MB")
    if compared:
        print("  as its export wrote it: SHA-256 compared with the report beside it")
    for title, lines in parts:
        print()
        for line in lines:
            print(f"  {title:<{_WIDTH}}{printable(line)}")
            title = ""


def _parts(path, kind):
    """Returns [(title, lines)] of all that is known of a file."""
    describe = {"SavedModel": _saved_model, "TFLite": _tflite, "ONNX": _onnx, "Keras": _keras}
    try:
        return [*_about(path), *describe[kind](path)]
    except (InputError, ImportError):
        raise
    except Exception as error:  # whatever the numbers in a damaged file lead to
        raise InputError(
            f"'{path}' is a damaged {kind} file ({type(error).__name__}: {first_line(error)})."
        ) from error


def _about(path):
    """Returns [(title, lines)] of what the file says about its model."""
    from effnet_tf.export import identify

    about = identify.about(path)
    if about is None:
        return [
            ("Model", [*_foreign(path), "Not said: variant, recipe, how images are cut."]),
            ("Classes", _classes(identify.class_names(path))),
        ]
    trained = f", trained in {about.workdir}" if about.workdir else ""
    quantized = f", quantised: {about.quantize}" if about.quantize else ""
    return [
        ("Model", [f"{about.variant}{quantized}{trained}"]),
        ("Recipe", _recipe(about)),
        ("Classes", _classes(about.class_names)),
        ("Images", _images(about)),
    ]


def _foreign(path):
    """Returns what the metadata of somebody else's TFLite file say."""
    from effnet_tf.export import identify
    from effnet_tf.export.tflite import metadata

    described = None
    if identify.kind(path) == "TFLite":
        described = metadata.read(identify.content(path))
    if described is None:
        return ["Not an export of this program."]
    lines = [f"{described.name or 'without a name'}, by its metadata", described.description]
    if described.mean:
        lines.append(
            f"pixels become (pixel - {_numbers(described.mean)}) / "
            f"{_numbers(described.std)} before the file, says its metadata"
        )
    return [line for line in lines if line]


def _recipe(about):
    import json

    from effnet_tf import recipes

    if about.recipe is None:
        return ["Not said: exported from a model, not from a run."]
    try:
        used = recipes.Recipe.from_json(json.dumps(about.recipe))
    except InputError as error:
        return [f"Of another version of this program: {error}"]
    return [
        f"data set {used.dataset}; where it differs from the paper's recipe:",
        *(f"  {line}" for line in recipes.differences(recipes.Recipe(), used)),
    ]


def _classes(names):
    if not names:
        return ["Not said."]
    names = [printable(name) for name in names]
    shown = names if len(names) <= 8 else [*names[:6], "...", names[-1]]
    return [f"{len(names)}: {', '.join(shown)}"]


def _images(about):
    lines = []
    if about.image_size:
        size = about.image_size
        part = size / (size + about.crop_padding)
        lines.append(
            f"{size} x {size}: the central {part:.1%} of the short side, resized with TF1's bicubic"
        )
    else:
        lines.append("Not square: how evaluation cut them is not said.")
    turned = "turned as their Exif data say" if about.exif_rotation else "not turned by Exif data"
    scaled = ", large JPEGs decoded at a fraction of their size" if about.scaled_decode else ""
    lines.append(f"photos are {turned}{scaled}")
    formula = f"(pixel - {_numbers(about.mean)}) / {_numbers(about.std)}"
    if about.normalizes:
        inside = f"; the file itself computes {formula}" if about.mean else ""
        lines.append(f"RGB, pixels in [0, 255]{inside}")
    else:
        lines.append(
            f"RGB, normalised before the file: {formula}"
            if about.mean
            else "RGB; how pixels are normalised before the file is not said"
        )
    return lines


def _numbers(values):
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _tflite(path):
    from effnet_tf.export import identify, runtimes
    from effnet_tf.export.tflite import flatbuffer

    model = identify.tflite_model(path)
    try:
        taken, pieces, total = runtimes.delegation(path)
        delegation = (
            f"XNNPACK takes {taken} of {total} operators, in {pieces} "
            f"{'piece' if pieces == 1 else 'pieces'}"
        )
    except InputError as error:
        delegation = str(error)
    parts = [
        ("Signatures", _tflite_signatures(model)),
        ("Takes", [_taken(lambda: runtimes.layout_of_tflite(path, model))]),
    ]
    for number, graph in enumerate(model.subgraphs):
        title = [f"subgraph {number}"] if len(model.subgraphs) > 1 else []
        counts = collections.Counter(flatbuffer.operator_names(model, number))
        parts += [
            ("Operators", [*title, *_counted(counts)]),
            ("Tensors", [*title, *_tensors(graph)]),
        ]
    return [
        *parts,
        ("Delegation", [delegation]),
        (
            "Metadata",
            [", ".join(flatbuffer.name(entry.name) for entry in model.metadata or []) or "none"],
        ),
    ]


def _taken(layout):
    """Returns what a file takes, or why that is no images."""
    try:
        return str(layout())
    except InputError as error:
        return str(error)


def _tflite_signatures(model):
    from effnet_tf.export.tflite import flatbuffer

    lines = []
    for signature in model.signatureDefs or []:
        graph = model.subgraphs[signature.subgraphIndex]
        lines.append(flatbuffer.name(signature.signatureKey))
        for arrow, side in (("", signature.inputs), ("-> ", signature.outputs)):
            lines += [
                f"  {arrow}{flatbuffer.name(one.name)}: {_tensor(graph.tensors[one.tensorIndex])}"
                for one in side or []
            ]
    if lines:
        return lines
    graph = model.subgraphs[0]
    lines = [
        f"  {arrow}{flatbuffer.name(graph.tensors[number].name)}: {_tensor(graph.tensors[number])}"
        for arrow, side in (("", graph.inputs), ("-> ", graph.outputs))
        for number in side
    ]
    return ["none; the file takes and gives", *lines]


def _tensor(tensor):
    from effnet_tf.export.tflite import flatbuffer

    dynamic = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    sides = [] if dynamic is None else ["any" if side < 0 else str(side) for side in dynamic]
    quantized = tensor.quantization
    scale = None if quantized is None else quantized.scale
    formula = ""
    if scale is not None and len(scale) == 1:
        formula = f", stands for {scale[0]:.6g} x (value {-int(quantized.zeroPoint[0]):+d})"
    return f"({', '.join(sides)}) {flatbuffer.type_name(tensor)}{formula}"


def _tensors(graph):
    """Returns the element types of the tensors, and how many are quantised in which way."""
    from effnet_tf.export.tflite import flatbuffer

    counts, ways = collections.Counter(), collections.Counter()
    for tensor in graph.tensors:
        counts[flatbuffer.type_name(tensor)] += 1
        scale = None if tensor.quantization is None else tensor.quantization.scale
        if scale is not None and len(scale):
            ways["per channel" if len(scale) > 1 else "per tensor"] += 1
    quantized = ", ".join(f"{count} {way}" for way, count in ways.items()) or "none"
    return [*_counted(counts), f"quantised: {quantized}"]


def _counted(counts):
    width = max([5, *map(len, counts)])
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        *(f"{name:<{width}} {count:6}" for name, count in rows),
        f"{'total':<{width}} {sum(counts.values()):6}",
    ]


def _saved_model(path):
    """Reads the SavedModel's description only: others' may hold operations that write files."""
    from effnet_tf.export import safety

    meta_graphs = safety.read(path).meta_graphs
    graph = meta_graphs[0]
    parts = [
        ("Signatures", _saved_signatures(graph)),
        ("Takes", [_taken(lambda: _saved_layout(path, graph))]),
    ]
    for name, signature in sorted(graph.signature_def.items()):
        if not name.startswith("__"):
            counts = _operations(graph.graph_def, signature)
            parts.append(("Operations", [name, *_counted(counts)]))
    if len(meta_graphs) > 1:
        parts.append(("Graphs", [f"{len(meta_graphs)}; this is about the first."]))
    return [*parts, *_risks(safety.beyond_tensors(path))]


def _saved_layout(path, graph):
    from tensorflow import dtypes

    from effnet_tf.export import layout

    if "serving_default" not in graph.signature_def:
        raise InputError("It has no signature serving_default.")
    inputs = graph.signature_def["serving_default"].inputs
    return layout.of_inputs(
        path,
        [
            (
                name,
                [dim.size for dim in tensor.tensor_shape.dim],
                dtypes.as_dtype(tensor.dtype).name,
            )
            for name, tensor in inputs.items()
        ],
    )


def _saved_signatures(graph):
    from tensorflow import dtypes

    lines = []
    for name, signature in sorted(graph.signature_def.items()):
        if name.startswith("__"):
            continue
        lines.append(name)
        for arrow, side in (("", signature.inputs), ("-> ", signature.outputs)):
            for key, tensor in sorted(side.items()):
                sides = [
                    "any" if dim.size < 0 else str(dim.size) for dim in tensor.tensor_shape.dim
                ]
                lines.append(
                    f"  {arrow}{key}: ({', '.join(sides)}) {dtypes.as_dtype(tensor.dtype).name}"
                )
    return lines or ["none"]


def _operations(graph, signature):
    """Counts the operations of a signature, in the functions that it calls, too."""
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    outputs = {tensor.name.split(":")[0] for tensor in signature.outputs.values()}
    roots = [node for node in graph.node if node.name in outputs and "f" in node.attr]
    counts, seen = collections.Counter(), set()
    waiting = list(roots or graph.node)
    while waiting:
        node = waiting.pop()
        called = [value.func.name for value in node.attr.values() if value.HasField("func")]
        called += [one.name for value in node.attr.values() for one in value.list.func]
        if not node.op.endswith("PartitionedCall"):
            counts[node.op] += 1
        for name in called:
            if name in functions and name not in seen:
                seen.add(name)
                waiting.extend(functions[name])
    return counts


def _risks(found):
    """Returns a warning where operations do more than compute on tensors."""
    if not found:
        return []
    lines = ["it does more than compute on tensors; classify opens it with --trust only:"]
    for kind, places in found.items():
        lines += [f"{kind}: {place}" for place in places[:_PLACES]]
        if len(places) > _PLACES:
            lines.append(f"{kind}: and {len(places) - _PLACES} more")
    return [("Beware", lines)]


def _onnx(path):
    try:
        onnx = extras.load("onnx", "Showing them")
    except extras.MissingPackage as error:  # all else needs no package
        return [("Operators", [str(error)])]
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's, of its version
        raise InputError(f"'{path}' is a damaged ONNX file ({first_line(error)}).") from error
    lines = []
    constants = {tensor.name for tensor in graph.initializer}
    for arrow, side in (("", graph.input), ("-> ", graph.output)):
        for value in side:
            if value.name not in constants:
                tensor = value.type.tensor_type
                sides = [dim.dim_param or str(dim.dim_value) or "any" for dim in tensor.shape.dim]
                kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
                lines.append(f"{arrow}{value.name}: ({', '.join(sides)}) {kind}")
    return [
        ("Signature", lines),
        ("Operators", _counted(collections.Counter(node.op_type for node in graph.node))),
    ]


def _keras(path):
    return [("Layers", ["A Keras file: load it with keras.saving.load_model."])]
