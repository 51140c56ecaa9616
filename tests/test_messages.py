"""messages.py: what the library says can be silenced, redirected, and told apart."""

import logging

import pytest

from effnet_tf import messages
from effnet_tf.messages import log


def test_a_plain_line_on_standard_output(capsys):
    log.info("100 % of {these} %s\nand more")
    assert capsys.readouterr() == ("100 % of {these} %s\nand more\n", "")


@pytest.fixture
def restored():
    """The logger as it was."""
    level, prefix = log.level, messages._handler.prefix
    yield
    log.setLevel(level)
    messages._handler.prefix = prefix


def test_a_caller_can_silence_it(restored, capsys):
    logging.getLogger("effnet_tf").setLevel("WARNING")
    log.info("loaded")
    log.warning("odd")
    assert capsys.readouterr().out == "odd\n"


def test_workers_tell_themselves_apart(restored, capsys):
    messages.name_this_process("worker 1")
    log.info("saved")
    log.info("\nNotice\nof two lines")
    assert capsys.readouterr().out == (
        "[worker 1] saved\n\n[worker 1] Notice\n[worker 1] of two lines\n"
    )
