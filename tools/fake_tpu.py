"""What does one replica of a TPU step look like, on a machine without a TPU?

    strategy = fake_tpu.strategy()                  # a real tf.distribute.TPUStrategy
    step, specs, _ = fake_tpu.training_step(strategy, settings)
    traced = fake_tpu.trace(strategy, step, specs)  # strategy.run(step), as a graph
    hlo = fake_tpu.one_replica_hlo(traced)          # what a TPU's compiler would be given

The strategy's devices do not exist: TensorFlow puts their variables on the CPU, and what was
traced can be looked at but not run. A process that made one should end with it.
"""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import values
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.tpu import tpu_system_metadata

from effnet_tf import data, recipes, variants
from effnet_tf.train import trainer as trainer_lib
from tools.tpu_chips import REPLICAS

# An AllToAll is how a TPUStrategy hands the first replica's step counter to all: 8 numbers.
_COUNTERS = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)
_REPLICATED = ("TPUReplicatedInput", "TPUReplicatedOutput", "CrossReplicaSum", "AllToAll")
_TPU_ONLY = ("_tpu_replicate", "_xla_outside_compilation")  # attributes of its operations


class _FakeResolver(tf.distribute.cluster_resolver.TPUClusterResolver):
    """Says that 8 cores are there: 2 x 2 chips of 2 cores, as in a v2-8 or v3-8."""

    def __init__(self):
        self._tpu = ""

    def get_tpu_system_metadata(self):
        cores = [[x, y, 0, core] for y in range(2) for x in range(2) for core in range(2)]
        topology = tf.tpu.experimental.Topology(
            mesh_shape=[2, 2, 1, 2], device_coordinates=np.array([cores], np.int32)
        )
        names = [*(f"TPU:{number}" for number in range(REPLICAS)), "CPU:0"]
        devices = [
            types.SimpleNamespace(name=f"/job:localhost/replica:0/task:0/device:{name}")
            for name in names
        ]
        return tpu_system_metadata.TPUSystemMetadata(
            num_cores=REPLICAS,
            num_hosts=1,
            num_of_cores_per_host=REPLICAS,
            topology=topology,
            devices=devices,
        )


def strategy() -> tf.distribute.TPUStrategy:
    """Returns a TPUStrategy over `REPLICAS` cores that do not exist."""
    tf.config.set_soft_device_placement(True)  # its variables land on the CPU
    return tf.distribute.TPUStrategy(_FakeResolver())


def trace(
    strategy: tf.distribute.TPUStrategy, step: Callable[[Any], Any], specs: Any
) -> ConcreteFunction:
    """Traces `strategy.run(step, args=(batch,))`.

    Args:
        strategy: from `strategy()`.
        step: a function of one batch, called in a replica context.
        specs: a structure of tf.TensorSpec: the batch of one replica.

    Returns:
        A concrete function; every replica is given the same batch.
    """

    @tf.function(autograph=False)
    def run(*tensors):
        batch = tf.nest.pack_sequence_as(
            specs, [values.PerReplica([tensor] * REPLICAS) for tensor in tensors]
        )
        strategy.run(step, args=(batch,))

    return run.get_concrete_function(*tf.nest.flatten(specs))


def one_replica_hlo(traced: ConcreteFunction) -> bytes:
    """Returns the HLO module of replica 0, serialised; sums over replicas are all-reduces.

    Args:
        traced: a concrete function from `trace`.

    Raises:
        ValueError: XLA cannot compile an operation; it says which.
    """
    graph = _one_replica(traced.graph.as_graph_def())
    used = {name for node in graph.node for name in node.input}
    specs, variables = _inputs(traced.graph, used)

    @tf.function(autograph=False, jit_compile=True)
    def step(*tensors):
        feeds = dict(zip(specs, tensors)) | {
            name: tf.convert_to_tensor(variable.handle) for name, variable in variables.items()
        }
        tf.graph_util.import_graph_def(
            graph, {f"{name}:0": feed for name, feed in feeds.items()}, name=""
        )

    concrete = step.get_concrete_function(*specs.values())
    return context.context().get_compiler_ir(
        device_name="",
        platform_name="CPU",
        function_name=concrete.name,
        flat_args=list(specs.values()),
        captured_inputs=concrete.captured_inputs,
        stage="hlo_serialized",
    )


def _inputs(graph, used):
    """Returns ({name: spec of a tensor}, {name: a new variable}) for the used inputs."""
    outer = {inner.op.name: handle for handle, inner in graph.captures}
    specs, variables = {}, {}
    for tensor in graph.inputs:
        name = tensor.op.name
        if name not in used:
            continue
        if tensor.dtype == tf.resource:
            kind = outer[name]._handle_data.shape_and_type[0]
            shape = [dim.size for dim in kind.shape.dim]
            variables[name] = tf.Variable(tf.zeros(shape, tf.dtypes.as_dtype(kind.dtype)))
        else:
            specs[name] = tf.TensorSpec(tensor.shape, tensor.dtype)
    return specs, variables


def _one_replica(graph):
    """Returns the GraphDef of replica 0 of the GraphDef of a TPUStrategy's step."""
    own = {
        node.name
        for node in graph.node
        if node.op in ("Placeholder", "TPUReplicateMetadata", "TPUCompilationResult")
    }
    single = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        if node.name not in own:
            new = single.node.add()
            new.CopyFrom(node)
            _translate(new)
            inputs = [name for name in new.input if name.lstrip("^") not in own or name[0] != "^"]
            new.input[:] = inputs
    for function in single.library.function:
        for node in function.node_def:
            _translate(node)
    return single


def _translate(node):
    """Turns an operation of a replicated computation into what runs inside one replica."""
    for attribute in _TPU_ONLY:
        node.attr.pop(attribute, None)
    node.device = ""
    if node.op not in _REPLICATED:
        return
    kind, replicas = node.attr["T"].type, node.attr["num_replicas"].i
    if node.op == "AllToAll" and kind not in _COUNTERS:
        return  # XLA will say that it cannot compile it
    inputs = list(node.input)
    node.attr.clear()
    node.attr["T"].type = kind
    if node.op == "CrossReplicaSum":
        node.op = "XlaAllReduce"
        node.attr["reduce_op"].s, node.attr["mode"].s = b"Add", b"CrossReplica"
    elif node.op == "TPUReplicatedOutput":
        node.op = "IdentityN"
        node.input[:] = inputs * replicas
        node.attr["T"].list.type.extend([kind] * replicas)
    else:  # its value for replica 0
        node.op = "Identity"
        node.input[:] = inputs[:1]


# --- effnet_tf's step ---------------------------------------------------------------------------


def training_step(
    strategy: tf.distribute.TPUStrategy, settings: dict
) -> tuple[Callable[[Any], Any], Any, int]:
    """Returns the step of a recipe's `Trainer`; all that knows its inside is in here.

    Args:
        strategy: from `strategy()`.
        settings: {"recipe": the fields of a `Recipe`, "step": "train" or "eval"}.

    Returns:
        (step, the spec of a replica's batch, number of parameters)
    """
    recipe = recipes.Recipe(**settings["recipe"])
    classes = tuple(map(str, range(recipe.num_classes or 1000)))
    records = [data.Listed([(b"", 0)]) for _ in range(2)]  # never read: only shapes are asked for
    for one, count in zip(records, (1_281_167, 50_000)):
        one.count = count
    source = data.Source("ImageNet", classes, *records)
    trainer = trainer_lib.Trainer(recipe, source, strategy)
    parameters = variants.cost(recipe.resolved_variant(), num_classes=len(classes)).params
    if settings["step"] == "eval":
        batches = data.evaluation(source, recipe, trainer.size, trainer.eval_per_replica, 1)
        return trainer.evaluation.step, batches.element_spec, parameters
    plain = dataclasses.replace(recipe, augment="none")  # the same shapes, sooner
    # The last stage has the largest images, and takes the most memory.
    size = trainer.stages[-1].image_size
    batches = data.training(source, plain, size, trainer.per_replica)
    return trainer.train_step, batches.element_spec, parameters
