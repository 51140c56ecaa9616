"""Which hyper-parameters does a training run have, and which recipes are shipped?"""

from effnet_tf.recipes.recipe import (
    ABOUT,
    RECIPES,
    Recipe,
    add_options,
    default_recipe_name,
    differences,
    from_options,
)

__all__ = [
    "ABOUT",
    "RECIPES",
    "Recipe",
    "add_options",
    "default_recipe_name",
    "differences",
    "from_options",
]
