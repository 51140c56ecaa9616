"""The launcher of Cloud TPUs: what it composes, what it refuses, and its documentation."""

import pathlib
import re
import shlex
import stat
import subprocess
import sys

import pytest

from tools import launch_commands, launch_steps, launch_tpu

ROOT = pathlib.Path(__file__).parents[2]
DOC = (ROOT / "docs/tpu.md").read_text()
PLACE = ("--name", "effnet", "--zone", "us-west4-a", "--bucket", "gs://my-bucket")
ONE, SLICE = "v5litepod-8", "v5litepod-32"
SINGLE_STEPS = [step for step in launch_steps.STEPS if step != "all"]


def words_of(step, accelerator=ONE, *more):
    """A command line of the launcher."""
    return [step, *PLACE, "--accelerator", accelerator, *more]


def commands(step, accelerator=ONE, *more):
    """The commands that a step composes."""
    return launch_steps.STEPS[step][0](launch_tpu.parse(words_of(step, accelerator, *more)))


def dry_run(capsys, *words):
    """What --dry_run prints."""
    assert launch_tpu.main([*words, "--dry_run"]) == 0
    return capsys.readouterr().out


def split(text):
    """The words of command lines, as a shell would split them."""
    return shlex.split(text.replace(" \\\n    ", " "), comments=True)


class FakeShell:
    """Stands in for subprocess.run: answers with exit codes or states, one after the other."""

    def __init__(self, monkeypatch, *answers):
        self.ran, self.answers, self.slept = [], list(answers), []
        monkeypatch.setattr(launch_commands.subprocess, "run", self.run)
        monkeypatch.setattr(launch_commands.shutil, "which", lambda program: f"/bin/{program}")
        monkeypatch.setattr(launch_commands.time, "sleep", self.slept.append)

    def run(self, words, cwd, text, stdout):
        assert cwd == ROOT and text
        self.ran.append(words)
        assert self.answers or stdout is None, "it would wait for ever"
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            assert stdout is not None
            return subprocess.CompletedProcess(words, 0, answer + "\n")
        return subprocess.CompletedProcess(words, answer, "" if stdout else None)


class TestComposing:
    def test_create_asks_for_the_right_machine(self):
        for name, (_, image) in launch_steps.ACCELERATORS.items():
            if name != "v6e-32":
                words = commands("create", name)[0].words
                assert f"--accelerator-type={name}" in words
                assert f"--runtime-version={image}" in words and "--spot" not in words
        assert "--spot" in commands("create", ONE, "--spot")[0].words

    def test_the_project_is_in_every_gcloud_command(self):
        for step in SINGLE_STEPS:
            for command in commands(step, SLICE, "--project", "mine"):
                assert ("--project=mine" in command.words) == (command.words[0] == "gcloud")

    def test_no_project_no_option(self):
        assert not [word for word in commands("create")[0].words if "project" in word]

    def test_the_bucket_lies_in_the_region_of_the_zone(self):
        assert "--location=us-west4" in commands("setup")[1].words

    def test_one_machine_trains_on_its_own_chips(self):
        (command,) = commands("train")
        assert "--worker=0" in command.words
        for text in (
            "--strategy tpu --tpu local --workdir gs://my-bucket/effnet",
            "--data_dir gs://my-bucket/tfds",
            "PJRT_DEVICE=TPU",
        ):
            assert text in command.words[-1]
        assert "TPU_LOAD_LIBRARY" not in command.words[-1]

    def test_a_slice_serves_on_all_machines_and_trains_from_the_first(self):
        serve, program = commands("train", SLICE)
        assert "--worker=all" in serve.words and "start_grpc_tpu_worker" in serve.words[-1]
        assert "--worker=0" in program.words and "--tpu effnet " in program.words[-1]
        assert "TPU_LOAD_LIBRARY=0" in program.words[-1] and "PJRT" not in program.words[-1]

    def test_the_users_data_dir_wins(self):
        text = commands("train", ONE, "--", "--data_dir", "gs://other/data")[0].words[-1]
        assert text.count("--data_dir") == 1 and "gs://other/data" in text

    def test_data_is_uploaded_for_imagenet_only(self):
        assert len(commands("data")) == 2
        (prepare,) = commands("data", ONE, "--", "--dataset", "cifar10")
        compile(prepare.words[-1], "data", "exec")
        assert '"cifar10"' in prepare.words[-1] and "gs://my-bucket/tfds" in prepare.words[-1]

    def test_all_is_its_steps(self):
        steps = [
            command for step in ("create", "wait", "install", "train") for command in commands(step)
        ]
        assert commands("all") == steps and commands("resume")[2:] == steps

    def test_what_is_printed_is_what_is_run(self, capsys):
        for accelerator in (ONE, SLICE):
            for step in launch_steps.STEPS:
                printed = dry_run(capsys, *words_of(step, accelerator, "--spot"))
                composed = commands(step, accelerator, "--spot")
                assert split(printed) == [word for command in composed for word in command.words]

    def test_the_first_line_says_why(self, capsys):
        for step in launch_steps.STEPS:
            assert re.match(r"# [A-Z].+\.\n", dry_run(capsys, *words_of(step)))


class TestTheLoopOnTheTpu:
    """The shell of the step train, with a stand-in for tmux, sleep and the program."""

    # The first run ends with the first code, and so on. A loop without an end is killed.
    PROGRAM = """echo "ran $*" >> runs
        codes="{codes}"; set -- $codes 99; shift $(($(wc -l < runs) - 1)); exit $1"""
    TMUX = 'for last; do :; done; sh -c "$last"'
    SLEEP = "echo >> naps; [ $(wc -l < naps) -lt 9 ] || kill $PPID"

    def start(self, tmp_path, codes, *options):
        program = self.PROGRAM.format(codes=" ".join(map(str, codes)))
        for path, text in (
            ("effnet_tf/venv/bin/python", program),
            ("bin/tmux", self.TMUX),
            ("bin/sleep", self.SLEEP),
        ):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / path).chmod(stat.S_IRWXU)
        line = commands("train", ONE, "--", *options)[0].words[-1].removeprefix("--command=")
        subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            check=True,
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": "/root"},
        )
        folder = tmp_path / "effnet_tf"
        return (folder / "runs").read_text().splitlines(), (folder / "train.log").read_text()

    def test_preempted_is_started_again(self, tmp_path):
        runs, log = self.start(tmp_path, [75, 75, 0])
        assert len(runs) == 3 and len(set(runs)) == 1
        assert log == "exit code 75\nexit code 75\nexit code 0\n"

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 74, 130])
    def test_anything_else_ends_it(self, code, tmp_path):
        runs, log = self.start(tmp_path, [code, 99])
        assert len(runs) == 1 and log == f"exit code {code}\n"

    def test_options_arrive_as_they_were_given(self, tmp_path):
        odd = """a $HOME `date` "two"  'one' \\ """
        runs, _ = self.start(tmp_path, [0], "--variant", "b4", "--init_weights", odd)
        assert runs[0].endswith(f"--variant b4 --init_weights {odd}")


class TestRunning:
    def test_runs_in_order_and_waits(self, monkeypatch, capsys):
        shell = FakeShell(monkeypatch, 0, "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
        assert launch_tpu.main(words_of("all")) == 0
        assert [words[0] for words in shell.ran] == ["gcloud"] * 4 + ["git"] + ["gcloud"] * 3
        assert len(shell.slept) == 2 and "PROVISIONING\nACTIVE\n" in capsys.readouterr().out

    def test_stops_at_the_first_failure(self, monkeypatch, capsys):
        shell = FakeShell(monkeypatch, 0, 7)
        assert launch_tpu.main(words_of("setup")) == 1
        assert len(shell.ran) == 2
        captured = capsys.readouterr()
        assert "$ gcloud storage buckets create gs://my-bucket" in captured.out
        assert captured.err.count("\n") == 1 and "exit code 7" in captured.err
        assert "all is well" in captured.err

    @pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
    def test_does_not_wait_for_ever(self, state, monkeypatch, capsys):
        shell = FakeShell(monkeypatch, "PROVISIONING", state)
        assert launch_tpu.main(words_of("wait")) == 1
        assert len(shell.ran) == 2 and f"The TPU is {state}" in capsys.readouterr().err

    def test_waiting_for_what_is_not_there(self, monkeypatch, capsys):
        FakeShell(monkeypatch, 1)
        assert launch_tpu.main(words_of("wait")) == 1
        assert "failed with exit code 1" in capsys.readouterr().err

    def test_resume_leaves_a_living_tpu_alone(self, monkeypatch, capsys):
        shell = FakeShell(monkeypatch, "ACTIVE")
        assert launch_tpu.main(words_of("resume")) == 1
        assert len(shell.ran) == 1 and "was not preempted" in capsys.readouterr().err

    def test_resume_makes_a_preempted_tpu_anew(self, monkeypatch):
        shell = FakeShell(monkeypatch, "SUSPENDING", "SUSPENDED", 0, 0, "ACTIVE")
        assert launch_tpu.main(words_of("resume", ONE, "--spot")) == 0
        verbs = [words[4] for words in shell.ran if "queued-resources" in words]
        assert verbs == ["describe", "describe", "delete", "create", "describe"]
        assert "train_tpu.py" in shell.ran[-1][-1]

    def test_without_gcloud(self, monkeypatch, capsys):
        shell = FakeShell(monkeypatch)
        monkeypatch.setattr(launch_commands.shutil, "which", lambda program: None)
        assert launch_tpu.main(words_of("create")) == 2
        assert shell.ran == [] and "no program gcloud" in capsys.readouterr().err

    def test_interrupted(self, monkeypatch, capsys):
        FakeShell(monkeypatch, KeyboardInterrupt())
        assert launch_tpu.main(words_of("create")) == 130
        assert "step delete" in capsys.readouterr().err

    def test_dry_run_runs_nothing(self, monkeypatch, capsys):
        shell = FakeShell(monkeypatch)
        for step in launch_steps.STEPS:
            dry_run(capsys, *words_of(step))
        assert shell.ran == []


class TestBadInput:
    """One sentence, exit code 2, and nothing was run."""

    @pytest.mark.parametrize(
        "options, message",
        [
            (["--accelerator", "v5e-8"], "no accelerator 'v5e-8' here; did you mean v6e-8"),
            (["--accelerator", "v5litepod8"], "did you mean v5litepod-8"),
            (["--accelerator", "v6e-32"], "does not know v6e"),
            (["--bucket", "my-bucket"], "like gs://my-bucket"),
            (["--bucket", "gs://a/b"], "like gs://my-bucket"),
            (["--zone", "us-west4"], "like us-west4-a"),
            (["--name", "My TPU"], "like effnet-b0"),
            (["--", "--variant", "b33"], "no variant 'b33'"),
            (["--", "--epochs", "0"], "epochs is 0"),
            (["--", "--tpu", "local"], "leave them out"),
            (["--", "--workdir", "gs://x/y"], "leave them out"),
            (
                ["--", "--dataset", "folder", "--data_dir", "photos"],
                "cannot read this machine's disk",
            ),
            (["--", "--data_dir", "/data"], "cannot read this machine's disk"),
            (["--", "--init_weights", "runs/b0"], "cannot read this machine's disk"),
        ],
    )
    def test_is_one_sentence(self, options, message, monkeypatch, capsys):
        shell = FakeShell(monkeypatch)
        assert launch_tpu.main(words_of("create", ONE, *options)) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1 and captured.out == "" and shell.ran == []

    @pytest.mark.parametrize(
        "words",
        [
            ["lunch", *PLACE, "--accelerator", ONE],
            ["create", *PLACE],
            words_of("create", ONE, "-x"),
            words_of("create", ONE, "--", "--epoch", "5"),
            words_of("create", ONE, "--", "b0"),
            words_of("create", ONE, "--", "--epochs", "many"),
        ],
    )
    def test_of_the_command_line(self, words, monkeypatch, capsys):
        shell = FakeShell(monkeypatch)
        with pytest.raises(SystemExit) as ended:
            launch_tpu.main(words)
        assert ended.value.code == 2 and shell.ran == []
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_digits_need_no_data_step(self, capsys):
        assert launch_tpu.main(words_of("data", ONE, "--", "--dataset", "digits")) == 2
        assert "skip the step" in capsys.readouterr().err


def test_needs_no_tensorflow():
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "tools/launch_tpu.py", *words_of("all"), "--dry_run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gcloud compute tpus" in finished.stdout
    assert not re.search(r"\| +(tensorflow|keras|numpy)\b", finished.stderr)


class TestDocumentation:
    BLOCKS = re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)

    def test_states_its_arguments(self):
        (line,) = [block for block in self.BLOCKS if "tools/launch_tpu.py" in block]
        words = split(line)[2:]
        assert sorted(words) == sorted(words_of("all", ONE, "--spot", "--dry_run"))

    def test_every_command_is_one_that_the_launcher_prints(self, capsys):
        printed = "".join(
            dry_run(capsys, *words_of(step, accelerator, "--spot"))
            for accelerator in (ONE, SLICE)
            for step in launch_steps.STEPS
        )
        blocks = [block for block in self.BLOCKS if "tools/launch_tpu.py" not in block]
        assert len(blocks) > 10
        for block in blocks:
            assert block in printed

    def test_every_step_is_there(self, capsys):
        block_of = {
            step: dry_run(capsys, *words_of(step, ONE, "--spot")).partition("\n")[2]
            for step in launch_steps.STEPS
        }
        block_of["resume"] = block_of["resume"].removesuffix(block_of.pop("all"))
        for step, block in block_of.items():
            assert f"```sh\n{block}```" in DOC, step
            assert re.search(rf"^## .*\b{step}\b", DOC, re.MULTILINE)

    def test_names_the_versions_and_accelerators(self):
        for package in launch_steps.PACKAGES:
            assert f"**{package.partition('==')[2]}**" in DOC
        for name in launch_steps.ACCELERATORS:
            assert f"`{name}`" in DOC

    def test_links_lead_somewhere(self):
        headings = {
            re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
            for line in re.findall(r"^##+ (.+)$", DOC, re.MULTILINE)
        }
        assert set(re.findall(r"\]\(#(.+?)\)", DOC)) <= headings
