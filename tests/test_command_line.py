"""command_line.py: a mistake in a command line is one line, which names the nearest."""

import pytest

from effnet_tf import command_line


def parser():
    made = command_line.parser("python -m it", "It does it.")
    made.add_argument("--workdir", required=True)
    made.add_argument("--epochs", type=int)
    made.add_argument("--quality", type=int, choices=range(1, 101))
    made.add_argument("--strategy", choices=("tpu", "cpu"))
    return made


def with_programs():
    made = command_line.parser("python -m it", "It does it.")
    programs = made.add_subparsers(metavar="PROGRAM", required=True)
    write = programs.add_parser("write")
    write.add_argument("--out", required=True)
    write.add_argument("files", nargs="*")
    programs.add_parser("read")
    return made


def refused(capsys, made, *words):
    """The line that a parser ends with."""
    with pytest.raises(SystemExit) as ended:
        made.parse_args(words)
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    "words, line",
    [
        # What is missing because of the mistake is not what is told.
        (["--workdri", "x"], "there is no option --workdri. Did you mean --workdir?"),
        (["--workdir", "x", "--epoch_s=3"], "there is no option --epoch_s. Did you mean --epochs?"),
        (["--workdir", "x", "-z"], "there is no option -z. Known: "),
        (["--workdir", "x", "y"], "nothing takes 'y'; --help shows what is taken"),
        (["--workdir", "x", "--strategy", "tpuu"], "there is no 'tpuu'. Did you mean tpu?"),
        (["--workdir", "x", "--quality", "101"], "101 is not between 1 and 100"),
        (["--workdir", "x", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--workdir", "x", "--a\x1b[31m"], "there is no option --a\\x1b[31m"),
        ([], "the following arguments are required: --workdir"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest(words, line, capsys):
    said = refused(capsys, parser(), *words)
    assert said.startswith("python -m it: error: ") and line in said


@pytest.mark.parametrize(
    "words, line",
    [
        (["wirte"], "it: error: argument PROGRAM: there is no 'wirte'. Did you mean write?"),
        (["write", "--uot", "x"], "it write: error: there is no option --uot. Did you mean --out?"),
        (["write", "a", "--out", "b", "--zz"], "it write: error: there is no option --zz"),
        ([], "it: error: the following arguments are required: PROGRAM"),
    ],
)
def test_of_programs_inside_of_a_program(words, line, capsys):
    assert line in refused(capsys, with_programs(), *words)


def test_what_is_right_is_read():
    options = parser().parse_args(["--workdir=x", "--epo", "3", "--verbosity", "1"])
    assert (options.workdir, options.epochs) == ("x", 3)
    options = with_programs().parse_args(["write", "--out", "x", "--", "--not_an_option"])
    assert options.files == ["--not_an_option"]
    assert parser().parse_args(["--workdir", "x", "--undefok=new", "--new=1"]).workdir == "x"


@pytest.mark.parametrize("words", [["--verbose", "read"], ["read", "--verbose"], ["read"]])
def test_every_program_can_be_heard(words):
    options = with_programs().parse_args(words)
    assert getattr(options, "verbose", False) == ("--verbose" in words)
    assert not hasattr(parser().parse_args(["--workdir", "x"]), "verbose")
