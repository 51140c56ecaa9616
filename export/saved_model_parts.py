"""What does a SavedModel hold and take, and what would it do beside computing?"""

import collections

from effnet_tf.errors import InputError

from . import lines

_PLACES = 3  # of one kind of operation that are shown


def parts(path: str) -> list[tuple[str, list[str]]]:
    """Returns [(title, lines)] of all that is known of a SavedModel.

    Reads its description only: it may hold operations that write files.
    """
    from effnet_tf.export import safety

    meta_graphs = safety.read(path).meta_graphs
    graph = meta_graphs[0]
    found = [
        ("Signatures", _signatures(graph)),
        ("Takes", [lines.taken(lambda: _layout(path, graph))]),
    ]
    for name, signature in sorted(graph.signature_def.items()):
        if not name.startswith("__"):
            counts = _operations(graph.graph_def, signature)
            found.append(("Operations", [name, *lines.counted(counts)]))
    if len(meta_graphs) > 1:
        found.append(("Graphs", [f"{len(meta_graphs)}; this is about the first."]))
    return [*found, *_risks(safety.beyond_tensors(path))]


def _layout(path, graph):
    from tensorflow import dtypes

    from effnet_tf.export import layout

    if "serving_default" not in graph.signature_def:
        raise InputError("It has no signature serving_default.")
    inputs = graph.signature_def["serving_default"].inputs
    described = []
    for name, tensor in inputs.items():
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        described.append((name, shape, dtypes.as_dtype(tensor.dtype).name))
    return layout.of_inputs(path, described)


def _signatures(graph):
    from tensorflow import dtypes

    found = []
    for name, signature in sorted(graph.signature_def.items()):
        if name.startswith("__"):
            continue
        found.append(name)
        for arrow, side in (("", signature.inputs), ("-> ", signature.outputs)):
            for key, tensor in sorted(side.items()):
                shape = [dim.size for dim in tensor.tensor_shape.dim]
                kind = dtypes.as_dtype(tensor.dtype).name
                found.append(f"  {arrow}{key}: {lines.sides(shape)} {kind}")
    return found or ["none"]


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
    shown = ["it does more than compute on tensors; classify opens it with --trust only:"]
    for kind, places in found.items():
        shown += [f"{kind}: {place}" for place in places[:_PLACES]]
        if len(places) > _PLACES:
            shown.append(f"{kind}: and {len(places) - _PLACES} more")
    return [("Beware", shown)]
