"""Which hyper-parameters does a training run have, and which recipes are shipped?"""

from effnet_tf.recipes.options import (
    STRATEGIES,
    add_options,
    default_recipe_name,
    from_options,
    given,
)
from effnet_tf.recipes.recipe import Recipe, differences, fixed_differences
from effnet_tf.recipes.shipped import ABOUT, RECIPES

__all__ = [
    "ABOUT",
    "RECIPES",
    "STRATEGIES",
    "Recipe",
    "add_options",
    "default_recipe_name",
    "differences",
    "fixed_differences",
    "from_options",
    "given",
]
