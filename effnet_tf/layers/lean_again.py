"""What of a block is kept for its gradient, and what is computed once more?"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from effnet_tf.layers.lean import Lean, Moved, Read, Stage
from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.lean_sources import again, note, source_of
from effnet_tf.layers.lean_units import held_back
from effnet_tf.layers.norm import BatchNorm


def computed(
    block: Sequence[Stage], weights: Sequence[keras.Variable], inputs: tf.Tensor, remat: str
) -> tuple[tf.Tensor, tf.Tensor, list[Moved]]:
    """Returns the map before the sum, what is to be added to it, and what batch norms follow.

    Args:
        block: the stages of a block.
        weights: all its variables.
        inputs: (N, H, W, C).
        remat: "none", or what is computed once more for the gradient instead of kept: the output
            of an "expansion", and a block that has none, or the whole "block".
    """
    values = [tf.convert_to_tensor(weight.value) for weight in weights]
    if remat == "block" or (remat == "expansion" and _is_first(block)):
        return _again(block, weights, inputs, values, keeps_input=remat == "expansion")
    lean = Lean(block, _reader(weights, values), remat)
    return *lean(inputs), lean.moved


def _is_first(block):
    """Whether a block widens nothing: its maps are cheap to compute, and the largest of all.

    On a TPU they would be read and written once more.
    """
    return not any(stage.widens for stage in block) and not under_xla()


def _reader(weights, values) -> Read:
    found = {id(weight): value for weight, value in zip(weights, values)}
    return lambda variable: found[id(variable)]


def _again(block, weights, inputs, values, keeps_input):
    """As `computed`, but the inputs of the block are all that is kept of it.

    They are computed again themselves, if they have a source: twice, unless `keeps_input`.
    """
    norms: list[BatchNorm] = []

    @tf.custom_gradient
    def run(x, *values):
        maps, moved = _once(block, weights, x, values)
        norms[:] = [each.layer for each in moved]

        def gradient(*of_outputs):
            *of_maps, held = held_back(*of_outputs[: len(maps)], again(inputs, of_outputs[0]))
            with tf.control_dependencies(of_maps), tf.GradientTape() as tape:
                held = tf.identity(held)
                if not keeps_input:
                    note(held, source_of(inputs))
                tape.watch([held, *values])
                maps_again, _ = _once(block, weights, held, values, moved)
            return tape.gradient(maps_again, [held, *values], of_maps)

        return (*maps, *[value for each in moved for value in each[1:]]), gradient

    outputs = run(inputs, *values)
    count = len(outputs) - 2 * len(norms)
    (x, *added), statistics = outputs[:count], outputs[count:]
    pairs = zip(statistics[::2], statistics[1::2])
    return x, *(added or [inputs]), [Moved(norm, *pair) for norm, pair in zip(norms, pairs)]


def _once(block, weights, x, values, known=()):
    """Returns the map before the sum, with what is to be added if that is computed, too; moved.

    An input that is added as it is would get a gradient here, too, of zeros: TensorFlow makes a
    constant of them, which stays.
    """
    # In pieces where it can: a wide map would set the peak of the whole step.
    lean = Lean(block, _reader(weights, values), "block", known)
    *maps, added = lean(x)
    if any(stage.described.shortcut for stage in block):
        maps.append(added)
    return maps, lean.moved
