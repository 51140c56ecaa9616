"""Which commands take a training run from nothing to a Cloud TPU, and back?

    python tools/launch_tpu.py STEP --name effnet --zone us-west4-a \\
        --accelerator v5litepod-8 --bucket gs://my-bucket --spot [--dry_run] \\
        [-- options of train_tpu.py]

Steps, in this order (docs/tpu.md explains them): setup, data, create, wait, install,
train, watch, resume, export, delete; `all` is create, wait, install and train. --dry_run
prints the commands and runs none. The options after -- are checked first: a typo costs no TPU.

Exit codes: 0 done; 1 a command failed, and those after it were not run; 2 bad input;
130 interrupted by hand.
"""

import argparse
import contextlib
import difflib
import io
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's effnet_tf, whatever is installed

from effnet_tf import recipes  # noqa: E402
from effnet_tf.errors import InputError  # noqa: E402

POLL_SECONDS = 30
# docs/tpu.md, "Which TensorFlow", says why these versions.
PACKAGES = ("tensorflow-tpu==2.20.0", "libtpu==0.0.18")
# TensorFlow's way to the chips of v5e and v6e, from within effnet_tf/ on the TPU.
PJRT = (
    "PJRT_DEVICE=TPU NEXT_PLUGGABLE_DEVICE_USE_C_API=true",
    "TF_PLUGGABLE_DEVICE_LIBRARY_PATH=venv/lib/python3.11/site-packages/libtpu/libtpu.so",
)

ACCELERATORS = {  # name: (machines, the image that they run); cloud.google.com/tpu/docs/v5e,
    "v5litepod-8": (1, "v2-alpha-tpuv5-lite"),  # /v6e, /v4 and /runtimes
    "v5litepod-32": (8, "v2-alpha-tpuv5-lite"),
    "v6e-8": (1, "v2-alpha-tpuv6e"),
    "v6e-32": (8, "v2-alpha-tpuv6e"),
    "v4-8": (1, "tpu-ubuntu2204-base"),
    "v4-32": (4, "tpu-ubuntu2204-base"),
}
NAMES = {  # option: (what Google Cloud takes, an example, what it names)
    "name": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "effnet-b0", "the TPU, and the run's directory"),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z0-9]+", "us-west4-a", "where the TPU is"),
    "bucket": (r"gs://[a-z0-9][-_.a-z0-9]+", "gs://my-bucket", "where data and run are"),
}


class Command(typing.NamedTuple):
    """A command line. With `until`, it is repeated until it prints one of these words."""

    words: list[str]
    until: tuple[str, ...] = ()
    hopeless: tuple[str, ...] = ()  # these words end the waiting, too


class CommandFailed(Exception):
    """A command ended badly; the message says which, and what to do."""


def gcloud(launch, *words):
    """A gcloud command, in the project if one was named."""
    return Command(["gcloud", *words, *([f"--project={launch.project}"] * bool(launch.project))])


def queued(launch, verb, *words):
    """A gcloud command about the request for the TPU, which has the TPU's name."""
    return gcloud(
        launch,
        "compute",
        "tpus",
        "queued-resources",
        verb,
        launch.name,
        f"--zone={launch.zone}",
        *words,
    )


def state(launch, until=(), hopeless=()):
    """Prints the state of the request."""
    words = queued(launch, "describe", "--format=value(state.state)").words
    return Command(words, until, hopeless)


def shell(launch, worker, *lines):
    """Runs lines of shell on a machine of the TPU, or "all"; the first that fails ends them."""
    return gcloud(
        launch,
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        launch.name,
        f"--zone={launch.zone}",
        f"--worker={worker}",
        "--command=" + " &&\n".join(lines),
    )


def tmux(session, *words):
    """Shell that starts words in a tmux session, where they outlive the ssh connection."""
    escaped = (re.sub(r'(["\\$`])', r"\\\1", word) for word in words)
    return f'tmux new-session -d -s {session} "' + " \\\n".join(escaped) + '"'


# The steps. The first line of a docstring is what --dry_run says.
def setup(launch):
    """Once per project: switch Cloud TPU on, and make a bucket in the same region."""
    return [
        gcloud(launch, "services", "enable", "tpu.googleapis.com"),
        gcloud(
            launch,
            "storage",
            "buckets",
            "create",
            launch.bucket,
            f"--location={launch.zone.rpartition('-')[0]}",
        ),
    ]


def data(launch):
    """Once per data set: TFDS writes it into the bucket. No TPU is needed for it."""
    name, folder = launch.recipe.dataset, f"{launch.bucket}/tfds"
    if name == "digits":
        raise InputError("The data set 'digits' comes with scikit-learn: skip the step 'data'.")
    upload = gcloud(
        launch,
        "storage",
        "cp",
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        f"{folder}/downloads/manual/",
    )
    code = (
        "import tensorflow_datasets as tfds\n"
        f'tfds.builder("{name}", data_dir="{folder}").download_and_prepare()'
    )
    return [upload] * (name == "imagenet2012") + [Command(["python", "-c", code])]


def create(launch):
    """Ask for the TPU. It is paid for from the moment it is there until the step delete."""
    return [
        queued(
            launch,
            "create",
            f"--node-id={launch.name}",
            f"--accelerator-type={launch.accelerator}",
            f"--runtime-version={launch.image}",
            *["--spot"] * launch.spot,
        )
    ]


def wait(launch):
    """Wait until the TPU is there."""
    return [state(launch, ("ACTIVE",), ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING"))]


def install(launch):
    """Copy what is committed here to every machine of the TPU, and install it there."""
    archive = f"/tmp/{launch.name}.tar.gz"
    lookup = ["google-api-python-client oauth2client"] * launch.is_slice  # of its addresses
    return [
        Command(["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"]),
        gcloud(
            launch,
            "compute",
            "tpus",
            "tpu-vm",
            "scp",
            archive,
            f"{launch.name}:effnet_tf.tar.gz",
            f"--zone={launch.zone}",
            "--worker=all",
        ),
        shell(
            launch,
            "all",
            "sudo apt-get update",
            "sudo apt-get install -y -o DPkg::Lock::Timeout=300 python3.11-venv tmux",
            "mkdir -p effnet_tf",
            "tar -xzf effnet_tf.tar.gz -C effnet_tf",
            "cd effnet_tf",
            "python3.11 -m venv venv",
            " \\\n".join(["venv/bin/pip install", *PACKAGES, *lookup, '".[demo]"']),
        ),
    ]


def train(launch):
    """Start the training. After exit code 75 (preempted, state saved) it starts again."""
    # A slice: TensorFlow's server has the chips of each machine, the program runs on machine 0.
    recipe, tpu = launch.recipe, launch.name if launch.is_slice else "local"
    options = [
        f"--strategy tpu --tpu {tpu} --workdir {launch.workdir}",
        *[f"--data_dir {launch.bucket}/tfds"] * (not recipe.data_dir),
        *[shlex.join(launch.options)] * bool(launch.options),
    ]
    loop = tmux(
        "train",
        "until",
        *["TPU_LOAD_LIBRARY=0"] if launch.is_slice else PJRT,
        "venv/bin/python -u train_tpu.py",
        *options,
        "; code=$?; echo exit code $code; [ $code -ne 75 ]",
        "; do sleep 60; done >> train.log 2>&1",
    )
    server = tmux("server", "env", *PJRT, "venv/bin/start_grpc_tpu_worker >> server.log 2>&1")
    serve = shell(launch, "all", "cd effnet_tf", f"(tmux has-session -t server || {server})")
    return [serve] * launch.is_slice + [shell(launch, 0, "cd effnet_tf", loop)]


def watch(launch):
    """See the TPU's state, the last lines of the log, and the curves (Ctrl-C ends them)."""
    return [
        state(launch),
        shell(launch, 0, "tail -n 5 effnet_tf/train.log"),
        Command(["tensorboard", "--logdir", launch.workdir]),
    ]


def resume(launch):
    """After a preemption: make the TPU anew; the run goes on from its last checkpoint."""
    gone = state(
        launch,
        ("SUSPENDED", "FAILED"),
        ("ACTIVE", "CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "DELETING"),
    )
    return [gone, *delete(launch), *everything(launch)]


def export(launch):
    """Write the trained network to files on this machine, verified."""
    return [
        Command(
            [
                "python",
                "-m",
                "export",
                kind,
                "--workdir",
                launch.workdir,
                "--out",
                f"runs/{launch.name}/{out}",
            ]
        )
        for kind, out in (("saved_model", "saved_model"), ("tflite", "model.tflite"))
    ]


def delete(launch):
    """Give the TPU back. The bucket stays, with the run in it."""
    return [queued(launch, "delete", "--force", "--quiet")]


def everything(launch):
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


def shown(words):
    """A command line for a shell, of at most 100 columns where its words allow."""
    text = ""
    for word in words:
        option = re.match("--[a-z-]+=|", word)[0]  # of --option=value only the value is quoted
        word = option + shlex.quote(word[len(option) :])
        width = len(text.rpartition("\n")[2]) + len(word.partition("\n")[0])
        text += (" " if width < 97 else " \\\n    ") * bool(text) + word
    return text


def dry_run(compose, commands):
    """Returns what --dry_run prints."""
    lines = ["# " + compose.__doc__.partition("\n")[0]]
    for command in commands:
        again = f"# Until it prints {' or '.join(command.until)}:"
        lines += [again] * bool(command.until) + [shown(command.words)]
    return "\n".join(lines)


def run(commands, hint):
    """Runs commands one after the other, from the root of the repository."""
    missing = {command.words[0] for command in commands if not shutil.which(command.words[0])}
    if missing:
        raise InputError(
            f"This machine has no program {' and no '.join(sorted(missing))}; gcloud "
            "is at cloud.google.com/sdk; --dry_run shows the commands."
        )
    for command in commands:
        print(f"$ {shown(command.words)}", flush=True)
        while not is_done(command, hint):
            time.sleep(POLL_SECONDS)


def is_done(command, hint):
    """Runs a command; returns whether it need not be run again."""
    output = subprocess.PIPE if command.until else None
    finished = subprocess.run(command.words, cwd=ROOT, text=True, stdout=output)
    word = (finished.stdout or "").strip()
    print(word, end="\n" * bool(word), flush=True)
    if finished.returncode or word in command.hopeless:
        what = (
            f"The TPU is {word}"
            if word
            else f"The command failed with exit code {finished.returncode}"
        )
        raise CommandFailed(f"{what}; nothing after that command was run. {hint}")
    return not command.until or word in command.until


def find_accelerator(name):
    """Returns the row of an accelerator; refuses one that is not there, or known to be no use."""
    if name not in ACCELERATORS:
        near = difflib.get_close_matches(name, ACCELERATORS, n=1, cutoff=0)[0]
        raise InputError(f"There is no accelerator '{name}' here; did you mean {near}?")
    if name == "v6e-32":
        raise InputError(
            "v6e-32 is a slice of 8 machines, and the server of TensorFlow 2.20 for "
            "slices does not know v6e: use v6e-8, or v5litepod-32."
        )
    return ACCELERATORS[name]


def check_training(words):
    """Returns the recipe that options of train_tpu.py describe, as train_tpu.py would."""
    parser = argparse.ArgumentParser(
        prog="train_tpu.py",
        usage="... -- [options of train_tpu.py]",
        add_help=False,
        allow_abbrev=False,
    )
    for option in ("--workdir", "--strategy", "--tpu"):
        parser.add_argument(option)
    recipes.add_options(parser)
    options = parser.parse_args(words)
    if options.workdir or options.strategy or options.tpu:
        raise InputError(
            "--workdir, --strategy and --tpu are made of --bucket, --name and "
            "--accelerator: leave them out after --."
        )
    with contextlib.redirect_stdout(io.StringIO()):  # train.log will say it
        recipe = recipes.from_options(options)
    recipe.resolved_variant()
    weights = recipe.init_weights or ""  # a file, or a name without a slash
    if (
        recipe.dataset == "folder"
        or "/" in weights
        and not weights.startswith("gs://")
        or recipe.data_dir
        and not recipe.data_dir.startswith("gs://")
    ):
        raise InputError(
            "The TPU cannot read this machine's disk: give gs:// paths, and a "
            "TFDS data set in the bucket (see the step data) or --dataset digits."
        )
    return recipe


def parse(argv):
    """Returns the checked command line: the `launch` of the functions above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    for name, (_, example, what) in NAMES.items():
        parser.add_argument(f"--{name}", required=True, help=f"{what}, such as {example}")
    parser.add_argument("--accelerator", required=True, help=", ".join(ACCELERATORS))
    parser.add_argument("--project", help="by default gcloud's own")
    parser.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run none")
    split = argv.index("--") if "--" in argv else len(argv)
    launch = parser.parse_args(argv[:split])
    for name, (pattern, example, _) in NAMES.items():
        if not re.fullmatch(pattern, getattr(launch, name)):
            raise InputError(f"--{name} is '{getattr(launch, name)}'; give one like {example}.")
    machines, launch.image = find_accelerator(launch.accelerator)
    launch.is_slice = machines > 1
    launch.workdir = f"{launch.bucket}/{launch.name}"
    launch.options = argv[split + 1 :]
    launch.recipe = check_training(launch.options)
    return launch


def main(argv=None):
    """The program; returns its exit code."""
    try:
        launch = parse(sys.argv[1:] if argv is None else argv)
        compose, hint = STEPS[launch.step]
        commands = compose(launch)
        if launch.dry_run:
            print(dry_run(compose, commands))
        else:
            run(commands, hint)
    except (InputError, CommandFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was created stays: see the step delete.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
