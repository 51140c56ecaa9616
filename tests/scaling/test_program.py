"""scaling/__main__.py, reporting.py, pictures.py: what a person types, and sees."""

import dataclasses
import re
import subprocess
import sys

import pytest

import effnet_tf
from effnet_tf import extras, scaling, variants
from effnet_tf.scaling import __main__ as program
from effnet_tf.scaling import pictures, reporting
from tests.test_plots import colours


def run(*arguments):
    program.main(program.parse(["scaling", "plan", *arguments]))


def count(capsys, *arguments):
    """The cells of the table that `count` prints, by their header."""
    program.main(program.parse(["scaling", "count", *arguments]))
    header, cells = capsys.readouterr().out.splitlines()[:2]
    return dict(zip(re.split(r"  +", header), re.split(r"  +", cells)))


class TestCount:
    def test_a_row_of_table_3(self, capsys):
        found = count(capsys, "--base", "mobilenet_v1", "--depth", "1.4", *("--width", "1.2"))
        assert found["network"] == "mobilenet_v1-d1.4-w1.2"
        assert (found["depth"], found["width"], found["pixels"]) == ("1.4", "1.2", "224")
        wide = count(capsys, "--base", "mobilenet_v2", "--width", "2")
        assert wide["multiply-adds"] == "1,137,428,224"

    def test_the_base_itself_in_a_family(self, capsys):
        found = count(capsys, "--base", "resnet50", "--family", "timm", "--resolution", "1")
        assert (found["network"], found["multiply-adds"]) == ("resnet50", "4,089,184,256")

    def test_the_network_can_be_saved(self, capsys, tmp_path):
        path = str(tmp_path / "net.json")
        count(capsys, "--resolution", "1.3", "--num_classes", "7", "--save", path)
        row = variants.read_variant(path)
        assert (row.name, row.resolution, row.num_classes) == ("b0-r1.3", 291, 7)

    @pytest.mark.parametrize("factor", ["0", "-1", "nan", "1e9"])
    def test_refuses_factors(self, factor, capsys):
        with pytest.raises(effnet_tf.InputError, match="--width is .* must be above 0"):
            count(capsys, "--width", factor)


class TestPlan:
    def test_says_what_was_asked_for_what_was_chosen_and_what_is_left(self, capsys):
        run("--multiply_adds", "600M", "--params", "6M", "--train_memory", "8G", "--batch", "64")
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == (
            "Targets: multiply-adds at most 600.0 M; parameters at most 6.0 M; training memory at "
            "most 8.0 GB for 64 images in float32."
        )
        assert lines[1].startswith("Chosen for you: --base b0, --dtype float32, --multiple_of 32, ")
        header, *rows = lines[3:9]
        assert re.split(r"  +", header) == [
            *("network", "strategy", "at", "depth", "width", "pixels"),
            *("multiply-adds", "left", "parameters", "left", "training memory", "left"),
        ]
        assert len({len(row) for row in lines[3:10]}) == 1  # the columns are aligned
        found = {re.split(r"  +", row)[1] for row in lines[4:10]}
        assert found == set(scaling.STRATEGIES)
        for row in rows:
            assert float(re.search(r"(\d+\.\d) M +\d", row)[1]) <= 600

    def test_says_what_is_computed_again(self, capsys):
        run("--train_memory", "2G", "--strategy", "compound", "--remat", "block")
        targets, chosen, *_ = capsys.readouterr().out.splitlines()
        assert targets.endswith("for 32 images in float32 with blocks computed again.")
        assert "remat" not in chosen

    def test_strategies_and_free_axes(self, capsys):
        run("--params", "6M", "--strategy", "width", "--strategy", "depth", "--free", "d,w")
        text = capsys.readouterr().out
        assert re.findall(r"^b0-\S+", text, re.MULTILINE)[0].endswith("dw-1")
        assert text.count("  free  ") == 3 and "compound" not in text

    def test_strategies_out_of_reach_are_told_below(self, capsys):
        run("--params", "2.5M", "--multiply_adds", "300M")
        table, _, sentences = capsys.readouterr().out.rpartition("\n\n")
        assert "b0-300M-compound" in table and "-depth" not in table
        assert sentences.count("No network on the line") == 2 and "(15.0 %) over 2.5 M" in sentences

    def test_one_that_nothing_limits_is_told_below(self, capsys):
        run("--params", "6M")
        assert "No target limits the line 'resolution' of b0" in capsys.readouterr().out

    def test_the_first_can_be_saved_and_trained(self, tmp_path, capsys):
        path = str(tmp_path / "plan.json")
        run("--multiply_adds", "60M", "--strategy", "compound", "--save", path)
        assert f"--variant {path}" in capsys.readouterr().out
        saved = variants.find_variant(path)
        assert saved == scaling.plan(multiply_adds="60M")[0].variant
        from effnet_tf.recipes import Recipe

        assert Recipe(variant=path).resolved_variant() == saved

    def test_table_of_the_family(self, capsys):
        run("--table")
        text = capsys.readouterr().out
        row = next(line for line in text.splitlines() if line.startswith("b5 "))
        # FACTS.md 1.7 and 2.1.
        wanted = "b5 5 2.49 2.2 1.61 1.6 450.5 456 30,389,784 10,266,384,752"
        assert row.split()[:-1] == wanted.split()
        assert len(text.splitlines()) == 1 + 9 + 1 and "phi is nowhere published" in text

    def test_the_half_phis_are_the_nearest_to_the_released_sides(self):
        """But for B4 and B5, whose depth and width say less: see the comment at PHIS."""
        import math

        for name, phi in reporting.PHIS.items():
            row = variants.VARIANTS[name]
            implied = [
                math.log(row.resolution / 224, 1.15),
                math.log(row.depth_coefficient, 1.2),
                math.log(row.width_coefficient, 1.1),
            ]
            assert min(implied) - 0.3 <= phi <= max(implied) + 0.3

    @pytest.mark.parametrize(
        "arguments, code, message",
        [
            ([], 2, "There is no target"),
            (["--params", "6x"], 2, "is not an amount"),
            (["--latency_ms", "5"], 2, "needs a table"),
            (["--params", "1k"], 2, "No network on the line 'compound'"),
        ],
    )
    def test_bad_input_is_a_sentence(self, arguments, code, message):
        finished = subprocess.run(
            [sys.executable, "-m", "effnet_tf.scaling", "plan", *arguments],
            capture_output=True,
            text=True,
        )
        assert finished.returncode == code, finished.stderr
        assert message in finished.stderr and "Traceback" not in finished.stderr


def is_near(colour, drawn):
    """Whether a colour, or one hardly thinner, was drawn."""
    return any(max(abs(int(a) - b) for a, b in zip(other, colour)) < 25 for other in drawn)


class TestPicture:
    @pytest.fixture(scope="class")
    def plans(self):
        # What would be a formula to matplotlib, and a colour to a terminal.
        base = dataclasses.replace(variants.VARIANTS["b0"], name="$\\frac{$ \x1b[31m")
        return scaling.plan(base, multiply_adds="600M", strategy=["compound", "width", "fast"])

    def test_shows_the_plans_among_what_was_published(self, plans, tmp_path):
        path = tmp_path / "plan.png"
        pictures.draw(plans, str(path))
        drawn = colours(path)
        # compound and fast are one network here, in black, and the third colour is not needed.
        assert is_near((220, 20, 60), drawn) and not is_near((0, 100, 0), drawn)
        assert is_near((31, 119, 180), drawn)  # C0: the paper's curve

    def test_refuses(self, plans, tmp_path, monkeypatch):
        with pytest.raises(effnet_tf.InputError, match="must end with .png"):
            pictures.draw(plans, str(tmp_path / "plan.pdf"))
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(extras.MissingPackage, match="Drawing plans needs matplotlib.*plots"):
            run("--params", "6M", "--plot", str(tmp_path / "plan.png"))
