"""What a killed, stopped or starved run leaves, and how it goes on: in real processes."""

import http.server
import os
import re
import resource
import signal
import threading

import pytest

from effnet_tf.runs import checkpoints
from tests.helpers import processes
from tests.helpers.same_runs import assert_equal_runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    code, out = processes.run(workdir)
    assert code == 0, out[-3000:]
    return workdir


def assert_tidy(workdir, keep=3):
    """At most K checkpoints and one that is being written; the newest can be loaded."""
    folder = workdir / "checkpoints"
    if not folder.exists():
        return
    assert len(list(folder.iterdir())) <= keep + 1
    if any(path.name == checkpoints.MANIFEST for path in folder.rglob("*")):
        assert checkpoints.newest(str(folder))


def kill_and_go_on(root, whole, seeds):
    """Kills runs again and again, at random points; those that end must equal `whole`."""
    number = ends = kills = 0
    for seed in [*seeds, None]:  # None: nobody disturbs the last one
        workdir = root / str(number)
        code, out = processes.run(workdir, place=seed and processes.random_place(seed))
        assert code in (0, -signal.SIGKILL), out[-3000:]
        assert_tidy(workdir)
        if code == 0:
            assert_equal_runs(workdir, whole)
            assert_tidy(workdir, keep=2)  # nothing is left of interrupted saves
            number, ends = number + 1, ends + 1
        kills += code != 0
    assert ends and kills >= len(seeds) // 2


def test_5_kills_change_nothing(whole, tmp_path):
    kill_and_go_on(tmp_path, whole, range(1, 6))


@pytest.mark.slow
@pytest.mark.parametrize("series", range(5))
def test_100_kills_change_nothing(whole, tmp_path, series):
    kill_and_go_on(tmp_path, whole, range(101 + 20 * series, 121 + 20 * series))


def test_a_kill_inside_a_save_loses_one_interval_at_most(whole, tmp_path):
    workdir = tmp_path / "run"
    code, out = processes.run(workdir, place=("tensors", 4, True))
    assert code == -signal.SIGKILL
    assert_tidy(workdir)
    newest = checkpoints.step_of(checkpoints.newest(str(workdir / "checkpoints")))
    assert newest >= 1
    code, out = processes.run(workdir)
    assert code == 0 and f"Resumed from {workdir}/checkpoints, step {newest}" in out
    assert_equal_runs(workdir, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(50))
def test_kills_inside_saves(whole, tmp_path, number):
    place = ("tensors", "manifest", "sweep", "rename")[number % 4]
    code, _ = processes.run(tmp_path / "run", place=(place, 2 + number // 8, number % 8 > 3))
    assert_tidy(tmp_path / "run")
    assert processes.run(tmp_path / "run")[0] == 0
    assert_equal_runs(tmp_path / "run", whole)


def check_notice(whole, workdir, place):
    """A notice at some place: exit code 75, a save after that step, and no step twice."""
    code, out = processes.run(workdir, place=(*place, signal.SIGTERM))
    assert code == 75, out[-3000:]
    saved = int(re.search(r"error: Saved step (\d+) after the notice", out)[1])
    assert checkpoints.step_of(checkpoints.newest(str(workdir / "checkpoints"))) == saved
    code, out = processes.run(workdir)
    assert code == 0 and f"step {saved}" in out
    assert "lost work 0.0 s" in out  # no step was made twice
    assert_equal_runs(workdir, whole)


def test_sigterm_saves_and_leaves(whole, tmp_path):
    check_notice(whole, tmp_path / "run", ("evaluation", 1, False))


def test_sigterm_before_the_first_step(tmp_path):
    """While it is traced."""
    code, out = processes.run(tmp_path / "run", place=("trace", 1, False, signal.SIGTERM))
    assert code == 75
    assert "No step was made before the notice (SIGTERM): run the same" in out
    assert not (tmp_path / "run").exists()


def test_sigterm_leaves_a_long_loop_after_the_step_in_flight(tmp_path):
    process, log = processes.start(tmp_path / "run", *processes.LONG_LOOP)
    processes.wait_for(log, "epoch 1/400")
    os.kill(process.pid, signal.SIGTERM)
    process.join(200)
    assert process.exitcode == 75, open(log).read()[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("place", ["steps", "evaluation", "snapshot", "manifest"])
def test_16_sigterms(whole, tmp_path, place, number, after):
    check_notice(whole, tmp_path / "run", (place, number, after))


class MetadataServer:
    """Google Cloud's metadata server, as far as it tells of the end."""

    def __init__(self):
        server = self
        self.answers = {"preempted": "FALSE", "maintenance-event": "NONE"}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.headers["Metadata-Flavor"] == "Google"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(server.answers[self.path.rpartition("/")[2]].encode())

            def log_message(self, *_):
                """Prints nothing."""

        self.http = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"localhost:{self.http.server_port}"


def test_the_notice_of_the_metadata_server(tmp_path, name="preempted", value="TRUE"):
    server = MetadataServer()
    process, log = processes.start(
        tmp_path / "run", "--epochs", "4000", GCE_METADATA_HOST=server.address
    )
    processes.wait_for(log, "epoch 1/")
    server.answers[name] = value
    process.join(200)
    server.http.shutdown()
    out = open(log).read()
    assert process.exitcode == 75, out[-3000:]
    assert f"after the notice ({name} of the metadata server)" in out


def test_a_disk_that_is_full_in_the_middle(whole, tmp_path, monkeypatch):
    """The limit of file sizes stands for the disk: the sixth write of tensors fails."""
    workdir = tmp_path / "run"
    code, out = processes.run(workdir, place=("manifest", 3, True))
    assert code == -signal.SIGKILL
    before = checkpoints.newest(str(workdir / "checkpoints"))
    size = max(path.stat().st_size for path in workdir.rglob("state.data*"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    process, log = processes.start(workdir)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    process.join(200)
    out = open(log).read()
    assert process.exitcode == 74, out[-3000:]
    assert "cannot be written" in out and "Traceback" not in out
    assert checkpoints.newest(str(workdir / "checkpoints")) == before
    assert processes.run(workdir)[0] == 0
    assert_equal_runs(workdir, whole)


def test_the_second_process_on_a_workdir_is_refused(tmp_path):
    process, log = processes.start(tmp_path / "run", "--epochs", "4000")
    processes.wait_for(log, "Compiling")
    code, out = processes.run(tmp_path / "run", "--epochs", "4000", log=f"{tmp_path}/second")
    process.kill()
    process.join()
    assert code == 2 and "Another process is training in" in out
