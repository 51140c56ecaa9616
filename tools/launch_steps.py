"""Which gcloud commands make up each step of a run on a Cloud TPU?

A step is a function of `launch`, the checked command line of launch_tpu.py. The first line of
its docstring is what --dry_run says.
"""

import argparse
import re
import shlex
from collections.abc import Sequence

from effnet_tf.errors import InputError
from tools.launch_commands import Command

# docs/tpu.md, "Which TensorFlow", says why these versions.
PACKAGES = ("tensorflow-tpu==2.20.0", "libtpu==0.0.18")
# TensorFlow's way to the chips of v5e and v6e, from within effnet_tf/ on the TPU.
PJRT = (
    "PJRT_DEVICE=TPU NEXT_PLUGGABLE_DEVICE_USE_C_API=true",
    "TF_PLUGGABLE_DEVICE_LIBRARY_PATH=venv/lib/python3.11/site-packages/libtpu/libtpu.so",
)

IMAGENET = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")  # must be had from image-net.org
UNPACK = (
    "sudo apt-get update",
    "sudo apt-get install -y -o DPkg::Lock::Timeout=300 python3.11-venv tmux",
    "mkdir -p effnet_tf",
    "tar -xzf effnet_tf.tar.gz -C effnet_tf",
    "cd effnet_tf",
    "python3.11 -m venv venv",
)

ACCELERATORS = {  # name: (machines, the image that they run); cloud.google.com/tpu/docs/v5e,
    "v5litepod-8": (1, "v2-alpha-tpuv5-lite"),  # /v6e, /v4 and /runtimes
    "v5litepod-32": (8, "v2-alpha-tpuv5-lite"),
    "v6e-8": (1, "v2-alpha-tpuv6e"),
    "v6e-32": (8, "v2-alpha-tpuv6e"),
    "v4-8": (1, "tpu-ubuntu2204-base"),
    "v4-32": (4, "tpu-ubuntu2204-base"),
}


def gcloud(launch: argparse.Namespace, *words: str) -> Command:
    """A gcloud command, in the project if one was named."""
    command = ["gcloud", *words]
    if launch.project:
        command.append(f"--project={launch.project}")
    return Command(command)


def queued(launch: argparse.Namespace, verb: str, *words: str) -> Command:
    """A gcloud command about the request for the TPU, which has the TPU's name."""
    place = (launch.name, f"--zone={launch.zone}")
    return gcloud(launch, "compute", "tpus", "queued-resources", verb, *place, *words)


def state(
    launch: argparse.Namespace, until: Sequence[str] = (), hopeless: Sequence[str] = ()
) -> Command:
    """Prints the state of the request."""
    words = queued(launch, "describe", "--format=value(state.state)").words
    return Command(words, tuple(until), tuple(hopeless))


def shell(launch: argparse.Namespace, worker: int | str, *lines: str) -> Command:
    """Runs lines of shell on a machine of the TPU, or "all"; the first that fails ends them."""
    command = "--command=" + " &&\n".join(lines)
    return _on_machines(launch, worker, "ssh", launch.name, options=(command,))


def _on_machines(launch, worker, verb, *words, options=()):
    """A gcloud command that reaches into a machine of the TPU, or "all"."""
    place = (f"--zone={launch.zone}", f"--worker={worker}")
    return gcloud(launch, "compute", "tpus", "tpu-vm", verb, *words, *place, *options)


def tmux(session: str, *words: str) -> str:
    """Shell that starts words in a tmux session, where they outlive the ssh connection."""
    escaped = (re.sub(r'(["\\$`])', r"\\\1", word) for word in words)
    return f'tmux new-session -d -s {session} "' + " \\\n".join(escaped) + '"'


# --- the steps ------------------------------------------------------------------------------------


def setup(launch: argparse.Namespace) -> list[Command]:
    """Once per project: switch Cloud TPU on, and make a bucket in the same region."""
    region = f"--location={launch.zone.rpartition('-')[0]}"
    return [
        gcloud(launch, "services", "enable", "tpu.googleapis.com"),
        gcloud(launch, "storage", "buckets", "create", launch.bucket, region),
    ]


def data(launch: argparse.Namespace) -> list[Command]:
    """Once per data set: TFDS writes it into the bucket. No TPU is needed for it."""
    name, folder = launch.recipe.dataset, f"{launch.bucket}/tfds"
    if name == "digits":
        raise InputError("The data set 'digits' comes with scikit-learn: skip the step 'data'.")
    code = (
        "import tensorflow_datasets as tfds\n"
        f'tfds.builder("{name}", data_dir="{folder}").download_and_prepare()'
    )
    prepare = Command(["python", "-c", code])
    if name != "imagenet2012":
        return [prepare]
    upload = gcloud(launch, "storage", "cp", *IMAGENET, f"{folder}/downloads/manual/")
    return [upload, prepare]


def create(launch: argparse.Namespace) -> list[Command]:
    """Ask for the TPU. It is paid for from the moment it is there until the step delete."""
    words = [
        f"--node-id={launch.name}",
        f"--accelerator-type={launch.accelerator}",
        f"--runtime-version={launch.image}",
    ]
    if launch.spot:
        words.append("--spot")
    return [queued(launch, "create", *words)]


def wait(launch: argparse.Namespace) -> list[Command]:
    """Wait until the TPU is there."""
    return [state(launch, ("ACTIVE",), ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING"))]


def install(launch: argparse.Namespace) -> list[Command]:
    """Copy what is committed here to every machine of the TPU, and install it there."""
    archive, copied = f"/tmp/{launch.name}.tar.gz", f"{launch.name}:effnet_tf.tar.gz"
    return [
        Command(["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"]),
        _on_machines(launch, "all", "scp", archive, copied),
        shell(launch, "all", *UNPACK, _pip(launch)),
    ]


def _pip(launch):
    packages = list(PACKAGES)
    if launch.is_slice:
        packages.append("google-api-python-client oauth2client")  # looks up its addresses
    return " \\\n".join(["venv/bin/pip install", *packages, '".[demo]"'])


def train(launch: argparse.Namespace) -> list[Command]:
    """Start the training. After exit code 75 (preempted, state saved) it starts again."""
    program = shell(launch, 0, "cd effnet_tf", tmux("train", *_training_loop(launch)))
    if not launch.is_slice:
        return [program]
    # TensorFlow's server has the chips of each machine, the program runs on machine 0.
    server = tmux("server", "env", *PJRT, "venv/bin/start_grpc_tpu_worker >> server.log 2>&1")
    serve = shell(launch, "all", "cd effnet_tf", f"(tmux has-session -t server || {server})")
    return [serve, program]


def _training_loop(launch):
    """The words of a loop in shell that trains until the program ends for good."""
    tpu, environment = "local", PJRT
    if launch.is_slice:
        tpu, environment = launch.name, ("TPU_LOAD_LIBRARY=0",)
    options = [f"--strategy tpu --tpu {tpu} --workdir {launch.workdir}"]
    if not launch.recipe.data_dir:
        options.append(f"--data_dir {launch.bucket}/tfds")
    if launch.options:
        options.append(shlex.join(launch.options))
    return (
        "until",
        *environment,
        "venv/bin/python -u train_tpu.py",
        *options,
        "; code=$?; echo exit code $code; [ $code -ne 75 ]",
        "; do sleep 60; done >> train.log 2>&1",
    )


def watch(launch: argparse.Namespace) -> list[Command]:
    """See the TPU's state, the last lines of the log, and the curves (Ctrl-C ends them)."""
    return [
        state(launch),
        shell(launch, 0, "tail -n 5 effnet_tf/train.log"),
        Command(["tensorboard", "--logdir", launch.workdir]),
    ]


def resume(launch: argparse.Namespace) -> list[Command]:
    """After a preemption: make the TPU anew; the run goes on from its last checkpoint."""
    gone = state(
        launch,
        ("SUSPENDED", "FAILED"),
        ("ACTIVE", "CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "DELETING"),
    )
    return [gone, *delete(launch), *everything(launch)]


def export(launch: argparse.Namespace) -> list[Command]:
    """Write the trained network to files on this machine, verified."""
    folder = f"runs/{launch.name}"
    return [
        _exported(launch, "saved_model", f"{folder}/saved_model"),
        _exported(launch, "tflite", f"{folder}/model.tflite"),
    ]


def _exported(launch, kind, out):
    return Command(["python", "-m", "export", kind, "--workdir", launch.workdir, "--out", out])


def delete(launch: argparse.Namespace) -> list[Command]:
    """Give the TPU back. The bucket stays, with the run in it."""
    return [queued(launch, "delete", "--force", "--quiet")]


def everything(launch: argparse.Namespace) -> list[Command]:
    """Create, wait, install and train."""
    return [command for step in (create, wait, install, train) for command in step(launch)]


LOGIN = "Python reaches the bucket after `gcloud auth application-default login`."
STEPS = {  # name: (its commands, what to do if one fails)
    "setup": (setup, "If the bucket is there already and yours, all is well: go on."),
    "data": (data, LOGIN),
    "create": (create, "See gcloud's words above; check the quota, the zone and the name."),
    "wait": (wait, "Give the request back with the step delete, then create it again."),
    "install": (install, "The same step again does no harm."),
    "train": (train, "'duplicate session: train' means that it runs: see the step watch."),
    "watch": (watch, "There is no log before the step train."),
    "resume": (resume, "An ACTIVE TPU was not preempted: step train. A deleted one: step all."),
    "export": (export, LOGIN),
    "delete": (delete, "What is left: gcloud compute tpus queued-resources list --zone=ZONE"),
    "all": (everything, "What was created stays: go on with single steps, or delete it."),
}
