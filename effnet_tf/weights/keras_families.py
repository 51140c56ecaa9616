"""Of which family is the network in a file of Keras', by the settings of its layers?

A file of weights alone has no settings: it says nothing.
"""

from collections.abc import Iterator

from effnet_tf.variants import BATCH_NORM_EPSILON, FAMILIES


def families(config: object) -> tuple[str, ...]:
    """Returns the families whose networks compute as this model does; () if it is not clear.

    Args:
        config: the model's configuration, if the file has one.
    """
    settings = list(_settings(config))
    epsilons = {each["epsilon"] for each in settings if _ends(each, "stem_bn", "epsilon")}
    for each in settings:
        if "expanded_filters" in each:  # a block of ours; those of before have no epsilon
            epsilons.add(each.get("batch_norm_epsilon", BATCH_NORM_EPSILON))
    if len(epsilons) != 1:
        return ()
    computed = {"padding": _padding(settings), "batch_norm_epsilon": epsilons.pop()}
    return tuple(
        family for family, fields in FAMILIES.items() if fields.items() >= computed.items()
    )


def _settings(config) -> Iterator[dict]:
    """Yields the settings of all layers, those of models inside of models too."""
    if isinstance(config, list):
        for each in config:
            yield from _settings(each)
    if isinstance(config, dict):
        if "name" in config:
            yield config
        for each in config.values():
            yield from _settings(each)


def _ends(settings, name, field):
    return str(settings["name"]).endswith(name) and field in settings


def _padding(settings):
    """Returns the padding of a network, one of `PADDINGS`; None if it is not clear."""
    sides = []
    for each in settings:
        if "expanded_filters" in each and each["strides"] > 1:
            return each.get("padding", "same")
        if _ends(each, "stem_conv", "padding") and each["padding"] == "same":
            return "same"
        if _ends(each, "conv_pad", "padding") and each["padding"] != [[0, 0], [0, 0]]:
            return _of_zeros(each["padding"], sides)
        sides += (each.get("batch_shape") or each.get("batch_input_shape") or [])[1:3]
    return None


def _of_zeros(amounts, sides):
    """Returns the padding that puts these zeros before a stride; None where both do."""
    if any(first < last for first, last in amounts):
        return "same"
    if any(side is None or side % 2 == 0 for side in sides):
        return "symmetric"
    return None
