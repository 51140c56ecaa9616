"""Which pixels does a model take, and what are its constants for them?

Followed from the images through the graph, into models inside of models and layers, up to the
first layer that looks at them. A `Normalization` of somebody's table is not on this way.
"""

import dataclasses

import keras
import numpy as np

from effnet_tf import layers
from effnet_tf.export import graph, inputs, pixels
from effnet_tf.export.identities import IDENTITIES

# What changes where a pixel is, and not what it says.
_MOVING = (
    keras.layers.CenterCrop,
    keras.layers.Cropping2D,
    keras.layers.RandomCrop,
    keras.layers.Resizing,
    keras.layers.ZeroPadding2D,
)
# Constants of less than this are of images in [0, 1] or [-1, 1].
_OF_BYTES = 2.0


@dataclasses.dataclass(frozen=True)
class _Pixels:
    """What a tensor is: an input of images, scaled or not.

    Attributes:
        number: of the input.
        is_scaled: whether something has been computed.
        scaling: what; None where that is no `Scaling`.
    """

    number: int
    is_scaled: bool = False
    scaling: pixels.Scaling | None = None

    def then(self, scaling: pixels.Scaling | None) -> "_Pixels":
        """Returns what it is after one more computation; None is an unknown one."""
        if scaling is not None and self.is_scaled:
            scaling = self.scaling and self.scaling.then(scaling)
        return _Pixels(self.number, True, scaling)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """What a model does to its images.

    Attributes:
        takes_pixels: whether it takes pixels in [0, 255] and normalises all its images itself.
        mean: subtracted from them, one for each channel; () where that is not known, or
            differs between its images.
        std: divides the rest.
    """

    takes_pixels: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def normalization(model: keras.Model) -> Normalization:
    """Returns what a model does to the pixels of its images.

    Args:
        model: a built `keras.Model`. One without a graph of layers is asked for those inside.
    """
    numbers = image_inputs(model)
    values: list[_Pixels | None] = [None] * len(model.inputs)
    for number in numbers:
        values[number] = _Pixels(number)
    found = _Walk().run(model, values)
    scaled = {each.number: each for each in reversed(found) if _is_of_bytes(each)}  # the first
    if not numbers or scaled.keys() != set(numbers):
        return Normalization(False)
    channels = model.inputs[numbers[0]].shape[-1]
    constants = {_constants(each.scaling, channels) for each in scaled.values()}
    if len(constants) > 1:
        return Normalization(True)
    return Normalization(True, *constants.pop())


def image_inputs(model: keras.Model) -> list[int]:
    """Returns the numbers of a model's inputs that are images or videos."""
    return [number for number, tensor in enumerate(model.inputs) if inputs.is_images(tensor)]


def _is_of_bytes(found):
    """Whether pixels in [0, 255] are scaled here, as far as constants tell it."""
    if found.scaling is None:
        return found.is_scaled
    sizes = np.abs([found.scaling.centre, found.scaling.deviation])
    return bool(sizes.max() > _OF_BYTES)


def _constants(scaling, channels):
    """Returns (mean, std) of a `Scaling`, each with a number for every channel."""
    if scaling is None:
        return (), ()
    mean, std = (
        tuple(map(_of_float32, np.broadcast_to(values, (channels,))))
        for values in (scaling.centre, scaling.deviation)
    )
    return mean, std


def _of_float32(value):
    """Returns 123.675 for 123.67500305, which is it in float32."""
    short = float(f"{value:.6g}")
    if abs(short - value) <= 1e-6 * abs(value):
        return short
    return float(value)


class _Walk:
    """Follows the images through a model; what reaches a layer that looks at them is kept."""

    def __init__(self):
        self._seen = []

    def run(self, model, values):
        """Returns the `_Pixels` that were looked at.

        Args:
            model: a model.
            values: for each of its inputs a `_Pixels`, or None for anything else.
        """
        self._model(model, values)
        return self._seen

    def _model(self, model, values):
        """Returns what the outputs of a model are."""
        if not graph.has_graph(model):
            return self._inside(model, values)
        model = graph.functional(model)
        known = {id(tensor): value for tensor, value in zip(model.inputs, values)}
        for node in graph.nodes(model):
            taken = [known.get(id(tensor)) for tensor in node.input_tensors]
            outputs = [None]
            if any(taken):
                outputs = self._operation(node.operation, node.arguments.args, taken)
            known.update((id(tensor), value) for tensor, value in zip(node.outputs, outputs))
        return [known.get(id(tensor)) for tensor in model.outputs]

    def _operation(self, operation, arguments, values):
        """Returns what the results of a layer, or of arithmetic, are."""
        first = next(filter(None, values))
        if isinstance(operation, (*IDENTITIES, *_MOVING)) or type(operation).__name__ == "Cast":
            return [first]
        if isinstance(operation, keras.layers.TimeDistributed):
            return self._operation(operation.layer, arguments, values)
        if isinstance(operation, keras.Model):
            return self._model(operation, values)
        if isinstance(operation, keras.layers.Pipeline):
            for layer in operation.layers:
                values = self._operation(layer, arguments, values)
            return values
        if pixels.scales(operation):
            return [first.then(pixels.scaling_of(operation, 4))]
        scaling = pixels.scaling_by_number(operation, arguments)
        if scaling is not None:
            return [first.then(scaling)]
        return self._inside(operation, values)

    def _inside(self, operation, values):
        """Follows the images into a layer that has no graph, but may hold what has one."""
        first = next(filter(None, values), None)
        parts = []
        if isinstance(operation, keras.Layer):
            parts = list(_parts(operation))
        for part in parts:
            if graph.has_graph(part):
                inner = [None] * len(part.inputs)
                for number in image_inputs(part)[:1]:
                    inner[number] = first
                self._model(part, inner)
                return [None]
        for part in parts:
            if pixels.scales(part) and first is not None:
                first = first.then(pixels.scaling_of(part, 4))
        if first is not None:
            self._seen.append(first)
        return [None]


def _parts(layer):
    """Yields the layers inside of a layer; of models with a graph only these themselves."""
    for part in layers.sublayers(layer):
        yield part
        if not graph.has_graph(part):
            yield from _parts(part)
