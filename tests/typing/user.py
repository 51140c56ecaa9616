"""A program of somebody who checks types: `mypy --strict` finds nothing wrong in it.

Nobody runs it; tests/test_types.py has it checked.
"""

import pathlib

import effnet_tf

cost: effnet_tf.Cost = effnet_tf.cost("b0")
parameters: int = cost.params
half: effnet_tf.Variant = effnet_tf.CompoundScaling().variant(-1)
kernels: list[int] = [block.kernel_size for block in effnet_tf.blocks(half)]

model = effnet_tf.model_fn("b0", num_classes=5, input_shape=(64, 64, 3))
drop_in = effnet_tf.EfficientNetB0(weights=None, classes=5)
maps = effnet_tf.feature_extractor("lite0", ["P3", "P5"])

report: effnet_tf.LoadReport = effnet_tf.load_weights(model, pathlib.Path("mine.keras"))
exact: bool = report.exact
effnet_tf.set_trainable(model, from_stage="stage_5", batch_norm="frozen")

recipe: effnet_tf.Recipe = effnet_tf.RECIPES["finetune"]
rate: float = recipe.base_learning_rate
model.compile(effnet_tf.optim.optimizer(recipe, steps_per_epoch=100))
metrics = effnet_tf.train.run(recipe, "runs/x")
accuracy: float = metrics["eval_accuracy"]

written = effnet_tf.export.to_tflite(model, "model.tflite", quantize="weights8")
difference: float = written.largest_difference
about = effnet_tf.export.About("b0", class_names=("cat", "dog"), image_size=224)
answer = effnet_tf.export.load("model.tflite")

try:
    effnet_tf.find("b9")  # type: ignore[attr-defined]  # a wrong name is seen
except effnet_tf.InputError as error:
    print(error)
