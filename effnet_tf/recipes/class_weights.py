"""How are the weights of classes given, and kept in a recipe?

As "balanced", or as a JSON file {"cat": 2.0, "dog": 0.5} whose content the recipe then holds: a
run explains itself, whatever becomes of the file. Standard library only.
"""

import json
import math

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line, shown

BALANCED = "balanced"
_MOST = 1 << 24  # bytes of a file


def kept(given: str) -> str:
    """Returns what a recipe holds for --class_weights: "balanced", or a JSON object.

    Args:
        given: one of these, or the path of a file with such an object, on this machine.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    if given == BALANCED:
        return given
    if given.startswith("{"):
        return json.dumps(_checked(given, "class_weights"), sort_keys=True)
    try:
        text = local_files.read(given, _MOST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The class weights '{given}' cannot be read ({first_line(error)}): give 'balanced', "
            'or a JSON file such as {"cat": 2.0, "dog": 0.5}.'
        ) from error
    return json.dumps(_checked(text, f"'{given}'"), sort_keys=True)


def parse(text: str) -> dict[str, float]:
    """Returns {class: weight} of what `kept` returned, if that is a JSON object."""
    return json.loads(text)


def _checked(text, where):
    try:
        weights = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {first_line(error)}.") from error
    if not isinstance(weights, dict) or not weights:
        raise InputError(f'{where} must be a JSON object such as {{"cat": 2.0, "dog": 0.5}}.')
    for name, weight in weights.items():
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not math.isfinite(weight) or weight < 0:
            raise InputError(
                f"{where} gives the class '{shown(name)}' the weight {shown(json.dumps(weight))}; "
                "it must be a number of at least 0."
            )
    if not any(weights.values()):
        raise InputError(f"{where} gives every class the weight 0: nothing would be learned.")
    return weights
