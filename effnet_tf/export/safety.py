"""May a SavedModel from elsewhere be opened, or does it do more than compute on tensors?

Opening a SavedModel already runs parts of it, its initialisers. So its description is read,
nothing is run: every node of every graph and function, whether something calls it or not,
must be one of operations.py.
"""

import collections
import os
import re

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from effnet_tf import local_files
from effnet_tf.errors import InputError, printable
from effnet_tf.export.operations import COMPUTING, SAVING

FILE = "saved_model.pb"
LIMIT = (1 << 31) - 1  # bytes of one protocol buffer
ASSETS = "assets outside of its folder"
UNKNOWN = "calls of what it does not hold"


def require(path: str, trust: bool = False) -> None:
    """Refuses a SavedModel that does more than compute on tensors.

    Args:
        path: its directory.
        trust: whether the user has said to open it whatever it does.

    Raises:
        InputError: it does, or it is damaged.
    """
    found = {} if trust else beyond_tensors(path)
    if found:
        kind, places = next(iter(found.items()))
        others = sum(map(len, found.values())) - 1
        more = f", and {others} more" if others else ""
        raise InputError(
            f"The SavedModel '{path}' does more than compute on tensors: {kind} ({places[0]})"
            f"{more}. To open it may write or read files, or worse. `inspect` lists what it "
            "holds; `classify --trust` opens it (in Python: trust=True)."
        )


def beyond_tensors(path: str) -> dict[str, list[str]]:
    """Returns {operation: places} of what a SavedModel does that is not in operations.py.

    Raises:
        InputError: its description is damaged, or too large.
    """
    found = collections.defaultdict(list)
    for meta_graph in read(path).meta_graphs:
        _look_at(meta_graph, found)
    return {printable(kind): list(map(printable, found[kind])) for kind in sorted(found)}


def read(path: str) -> saved_model_pb2.SavedModel:
    """Returns the description of a SavedModel.

    Raises:
        InputError: there is none, it is damaged, or has no graph.
    """
    file = os.path.join(path, FILE)
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(local_files.read(file, LIMIT))
    except (DecodeError, OSError) as error:
        raise InputError(f"'{file}' is damaged or cannot be read.") from error
    if not saved_model.meta_graphs:
        raise InputError(f"'{file}' is damaged: it has no graph.")
    return saved_model


def _look_at(meta_graph, found):
    functions = {
        function.signature.name: function.node_def
        for function in meta_graph.graph_def.library.function
    }
    calls = {name: _called_by(nodes) for name, nodes in functions.items()}
    saving_nodes, saving_functions = _of_saver(meta_graph, calls)
    for node in meta_graph.graph_def.node:
        _look_at_node(node, "the graph", node.name in saving_nodes, functions, found)
    for name, nodes in functions.items():
        for node in nodes:
            _look_at_node(node, f"function {name}", name in saving_functions, functions, found)
    for asset in meta_graph.asset_file_def:
        if os.path.isabs(asset.filename) or ".." in re.split(r"[/\\]", asset.filename):
            found[ASSETS].append(asset.filename)


def _look_at_node(node, place, is_saver, functions, found):
    # A node may be a call whose operation is the function's name.
    is_call = node.op in functions and op_def_registry.get(node.op) is None
    if not (node.op in COMPUTING or is_call or (is_saver and node.op in SAVING)):
        found[node.op].append(f"{place}, node {node.name}")
    for name in _called_by([node]) - {node.op}:
        if name not in functions:
            found[UNKNOWN].append(f"{name} in {place}, node {node.name}")


def _called_by(nodes):
    """Returns the names of the functions that a list of nodes calls or hands on, at any depth."""
    names = {node.op for node in nodes if op_def_registry.get(node.op) is None}
    waiting = [value for node in nodes for value in node.attr.values()]
    while waiting:
        value = waiting.pop()
        for function in (value.func, *value.list.func):
            if function.name:
                names.add(function.name)
            waiting.extend(function.attr.values())
    return names


def _of_saver(meta_graph, calls):
    """Returns the nodes and functions that only saving and restoring would run.

    Args:
        meta_graph: a MetaGraphDef.
        calls: {function: the functions that it calls}.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    saver = meta_graph.saver_def
    inside = _before(
        nodes, {saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name}
    )
    used = _before(nodes, (nodes.keys() - inside) | _run_by_loading(meta_graph))
    only_saver = inside - used
    others = _called_by([node for name, node in nodes.items() if name not in only_saver])
    others |= set(meta_graph.object_graph_def.concrete_functions)
    others |= {gradient.gradient_func for gradient in meta_graph.graph_def.library.gradient}
    functions = _reached(_called_by([nodes[name] for name in only_saver]), calls)
    return only_saver, functions - _reached(others, calls)


def _run_by_loading(meta_graph):
    """Returns the tensors and nodes that signatures and collections name."""
    names = set()
    for signature in meta_graph.signature_def.values():
        for tensor in signature.outputs.values():
            sparse = tensor.coo_sparse
            names.update(
                (
                    tensor.name,
                    sparse.values_tensor_name,
                    sparse.indices_tensor_name,
                    sparse.dense_shape_tensor_name,
                )
            )
            names.update(part.name for part in tensor.composite_tensor.components)
    for collection in meta_graph.collection_def.values():
        names.update(collection.node_list.value)
    return names


def _before(nodes, names):
    """Returns the names of nodes and of all that they take, of tensors or nodes ("x:0", "^x")."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in found:
            found.add(name)
            waiting.extend(nodes[name].input)
    return found


def _reached(names, calls):
    """Returns the functions of these names, and all that they call."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in calls and name not in found:
            found.add(name)
            waiting.extend(calls[name])
    return found
