"""Runs programs as if packages were not installed, each in a fork of one process.

The process imports TensorFlow once, with all optional packages blocked, and computes nothing;
a fork of it blocks only those of its request. `Server` talks to it.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[2]


def environment(blocked):
    """The environment of a Python process that lacks packages."""
    paths = [str(ROOT / "tests" / "helpers" / "blocked"), str(ROOT), str(ROOT / "tools")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "BLOCKED": ",".join(blocked),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


class Server:
    """The process that forks; close it in the end."""

    def __init__(self, blocked):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.without"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(blocked),
            cwd=ROOT,
        )

    def run(self, blocked, program, *arguments):
        """Returns (exit code, all that was printed) of "train_tpu", "export", "data", ..."""
        request = {
            "blocked": sorted(blocked),
            "program": program,
            "arguments": [str(argument) for argument in arguments],
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return answer["code"], answer["output"]

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def _programs():
    import tpu_check

    import train_tpu
    from effnet_tf import dry_run, programs  # noqa: F401  (once, for all forks)
    from effnet_tf.data import __main__ as data
    from effnet_tf.data import prepare, sources  # noqa: F401
    from effnet_tf.search import __main__ as search
    from effnet_tf.train import session  # noqa: F401
    from export import __main__ as export
    from tests.helpers import tiny_net

    tiny_net.register()
    return {
        "train_tpu": train_tpu.console,
        "export": export.console,
        "data": lambda: programs.run(data.main, data.parse),
        "search": lambda: programs.run(search.main, search.parse),
        "tpu_check": tpu_check.main,
        "python": lambda: exec(sys.argv[1], {}),
    }


def _child(request, program, log):
    """Runs a program in a fork, and ends it."""
    import sitecustomize

    sitecustomize.Finder.names = frozenset(request["blocked"])
    os.environ["BLOCKED"] = ",".join(request["blocked"])
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    # Rewriting the graphs takes longer than running them, and needs no package.
    sys.modules["tensorflow"].config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    sys.argv = [request["program"], *request["arguments"]]
    code = 1
    try:
        code = program() or 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    os._exit(code)


def main():
    """Answers requests, a line of JSON each, until there is no more."""
    programs = _programs()
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as log:
            pid = os.fork()
            if not pid:
                _child(request, programs[request["program"]], log)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            log.seek(0)
            output = log.read().decode("utf-8", "replace")
        print(json.dumps({"code": code, "output": output}), flush=True)


if __name__ == "__main__":
    main()
