"""The main job, with the real programs: train, export, verify, classify.

`make demo` runs this; the digits come with scikit-learn, so nothing is downloaded.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import time

from effnet_tf import programs

RUN = pathlib.Path("runs/digits")


def run(*command):
    """Prints a command and runs it with this Python; a failure ends the demo."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    finished = subprocess.run([sys.executable, *command])
    if finished.returncode:
        sys.exit(f"The demo stops: that command failed with exit code {finished.returncode}.")


def main():
    """Runs the four programs and says what to do next."""
    start = time.monotonic()
    run("train_tpu.py", "--recipe", "digits", "--workdir", str(RUN))
    run("-m", "export", "saved_model", "--workdir", str(RUN), "--out", str(RUN / "saved_model"))
    run("-m", "export", "tflite", "--workdir", str(RUN), "--out", str(RUN / "digits.tflite"))
    run(
        "-m",
        "export",
        "classify",
        str(RUN / "digits.tflite"),
        "--workdir",
        str(RUN),
        "--picture",
        str(RUN / "predictions.png"),
    )
    activate = pathlib.Path(sys.prefix, "bin", "activate")
    if activate.is_relative_to(pathlib.Path.cwd()):
        activate = activate.relative_to(pathlib.Path.cwd())
    result = json.loads((RUN / "result.json").read_text())
    print(f"""
Done in {(time.monotonic() - start) / 60:.1f} minutes. {RUN}/ now holds

  checkpoints/         the trained network: {result["eval_accuracy"]:.2%} of \
{result["eval_images"]} held-out digits right
  learning_curve.png   loss and accuracy of every epoch
  saved_model/         for TensorFlow Serving and Python, verified
  digits.tflite        for phones, verified
  predictions.png      what digits.tflite says of held-out digits

Next, your own images, one folder per class (`source {activate}` first):

  python train_tpu.py --dataset folder --data_dir path/to/photos --workdir runs/photos
  python -m export tflite --workdir runs/photos --out runs/photos/model.tflite

or ImageNet on a Cloud TPU:

  python train_tpu.py --variant b0 --dataset imagenet2012 --data_dir gs://BUCKET/tfds \\
      --tpu local --workdir gs://BUCKET/b0""")


if __name__ == "__main__":
    programs.on_interruption(lambda: "`make demo` goes on from there")
    programs.run(main)
