"""Which other machines does a worker of TF_CONFIG wait for, and are they there?

TensorFlow waits for them inside C++ for as long as it pleases, in silence, deaf to signals,
and so that no other thread of Python can run. So the workers meet here before: each listens
at its own address until all the others have answered at theirs.
"""

import contextlib
import json
import os
import socket
import threading
import time

from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log

EXAMPLE = (
    '{"cluster": {"worker": ["HOST1:PORT", "HOST2:PORT"]}, "task": {"type": "worker", "index": 0}}'
)
TIMEOUT = 600.0  # seconds to wait for the others
PATIENCE = 5.0  # seconds before anything is said: workers seldom start at the same moment
AGAIN = 60.0  # seconds after which it is said again
_SHOWN = 200  # characters of a TF_CONFIG that is damaged
PROBE = 2.0  # seconds for an address to answer


def addresses() -> tuple[str, list[str]]:
    """Returns (address of this worker, those of the others), as TF_CONFIG names them.

    Raises:
        InputError: there is no TF_CONFIG, or it does not say who is who.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise InputError(
            "Strategy 'multiworker' needs the environment variable TF_CONFIG on every "
            f"machine: {EXAMPLE}, with its own index on each."
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        index = int(task["index"])
        own = cluster[task["type"]][index]
        if index < 0:
            raise ValueError(f"the index {index} is below 0")
        training = [*cluster.get("chief", []), *cluster.get("worker", [])]
        others = [_checked(address) for address in training]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(
            f"TF_CONFIG does not describe workers ({type(error).__name__}: "
            f"{first_line(error)}); it is {text[:_SHOWN]!r} and should be like "
            f"{EXAMPLE}, with its own index on each machine."
        ) from error
    others.remove(own)
    return own, others


def _checked(address):
    host, colon, port = address.rpartition(":")
    if not host or not colon or not 0 < int(port) < 65536:
        raise ValueError(f"'{address}' is not HOST:PORT")
    return address


def meet(own: str, others: list[str], timeout: float) -> None:
    """Returns once all other workers have answered; says meanwhile whom it waits for.

    Args:
        own: address of this worker, at which it answers the others.
        others: their addresses.
        timeout: seconds after which to give up.

    Raises:
        InputError: they did not come in time, or this one cannot listen at its address.
    """
    absent = list(others)
    with _listening(own):
        # In a thread: looking up the name of a host may take long, and signals would wait.
        threading.Thread(target=_look_for, args=(absent,), daemon=True).start()
        begun = said = time.monotonic()
        quiet = PATIENCE
        while absent:
            time.sleep(0.1)
            now = time.monotonic()
            if absent and now - begun > timeout:
                raise InputError(
                    f"No worker has answered at {', '.join(absent)} for {timeout:g} seconds. "
                    "Start the same command on every machine of TF_CONFIG, look whether this "
                    "machine can reach those addresses, or wait for longer with "
                    "--worker_timeout."
                )
            if absent and now - said > quiet:
                said, quiet = now, AGAIN
                log.info(
                    f"Waiting for the workers {', '.join(absent)} of TF_CONFIG. This one gives "
                    f"up after {timeout:g} seconds (--worker_timeout)."
                )


def _listening(own):
    """Returns a socket at this worker's port; the kernel answers, nobody has to accept."""
    address = "", int(own.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):  # a machine may know IPv6 and not be let use it
                return socket.create_server(
                    address, family=socket.AF_INET6, backlog=128, dualstack_ipv6=True
                )
        return socket.create_server(address, backlog=128)
    except OSError as error:
        raise InputError(
            f"This worker cannot listen at its address {own} of TF_CONFIG: {first_line(error)}."
        ) from error


def _look_for(absent):
    """Takes those out of a list who answer, until it is empty or the process ends."""
    while absent:
        for address in list(absent):
            if _answers(address):
                absent.remove(address)
        time.sleep(0.2)


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE).close()
        return True
    except OSError:  # nobody listens, or there is no such host
        return False
