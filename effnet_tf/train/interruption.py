"""Is this machine about to be taken away, or the run to end by hand?

SIGTERM, and the notice of Google Cloud's metadata server: a preempted spot machine has
about 30 seconds. (TensorFlow's own PreemptionCheckpointHandler does not work on TPUs.) And
Ctrl-C, which Python would not hear of before a loop of thousands of steps is over.
"""

import http.client
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable

from effnet_tf import programs
from effnet_tf.errors import PREEMPTED, Preempted
from effnet_tf.messages import log

POLL_SECONDS = 1.0
# https://cloud.google.com/compute/docs/instances/preemptible: instance/preempted;
# TPU VMs announce maintenance, which ends them, in instance/maintenance-event.
NOTICES = {"preempted": ("TRUE",), "maintenance-event": ("TERMINATE_ON_HOST_MAINTENANCE",)}


# So long a compilation may keep the main thread inside TensorFlow once the end is asked for.
# It leaves a preempted machine time to spare.
PATIENCE = 10.0


class Interruption:
    """A context manager that watches for notices of the end.

    A thread calls `on_notice` at once, even while the main thread is inside TensorFlow,
    where Python's signal handlers do not run.

    While `at_stake` is False, as long as the first step is being compiled, there is nothing to
    save: then SIGTERM raises `Preempted` at once. A program that TensorFlow does not let go
    within `PATIENCE` is ended then, and after Ctrl-C always.

    Args:
        take_back: function that undoes what the run has written, for such an end.

    Attributes:
        reason: None, or the notice in words.
        interrupted: whether Ctrl-C came.
        on_notice: function to call at a notice or Ctrl-C, such as one that ends a loop.
        at_stake: whether steps have been made that are not saved.
    """

    def __init__(self, take_back: Callable[[], None] = lambda: None):
        self.interrupted, self.at_stake = False, False
        self.reason: str | None = None
        self.on_notice: Callable[[], object] | None = None
        self._take_back = take_back
        self._ended = threading.Event()

    def __enter__(self):
        self._signals = None
        if threading.current_thread() is threading.main_thread():
            self._watch_signals()
        else:
            log.info("Not in the main thread: SIGTERM is not watched.")
        host = _metadata_host()
        if host:
            log.info(f"Watching the metadata server {host} for a preemption notice.")
            threading.Thread(target=self._poll, args=(host,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        if self._signals:
            handler, wakeup, ours, theirs = self._signals
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGTERM, handler)
            theirs.close()  # ends the thread
            self._thread.join()
            ours.close()

    def _watch_signals(self):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        # C writes a signal's number here at once, whatever the main thread is doing.
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        handler = signal.signal(signal.SIGTERM, self._on_sigterm)
        self._signals = handler, wakeup, ours, theirs
        self._thread = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._thread.start()

    def _on_sigterm(self, *_):
        """Python's handler, in the main thread, once TensorFlow lets it go."""
        if not self.at_stake:
            raise Preempted(self.nothing_made("SIGTERM"))

    @staticmethod
    def nothing_made(reason: str) -> str:
        """Returns what to say when a notice comes before the first step of a process."""
        return f"No step was made before the notice ({reason}): run the same command again."

    def _read(self, sock):
        while received := sock.recv(64):
            if signal.SIGTERM in received:
                self.notice("SIGTERM")
            elif signal.SIGINT in received:
                self.interrupted = True
                self._end_loop()

    def _leave_if_stuck(self):
        """Ends a program that TensorFlow has not let go within `PATIENCE`, if nothing is lost."""
        if self._ended.wait(PATIENCE):
            return
        if self.interrupted:  # then nothing is saved, whatever was made
            self._take_back()
            programs.end_now(signal.SIGINT)
        if not self.at_stake:
            self._take_back()
            print(f"error: {self.nothing_made(self.reason)}", file=sys.stderr)
            programs.leave(PREEMPTED)

    def leaving(self) -> None:
        """Notes that the run closes its files: from now on it is not ended from here."""
        self._ended.set()

    def _end_loop(self):
        if self.on_notice:
            self.on_notice()
        if programs.is_running():
            threading.Thread(target=self._leave_if_stuck, daemon=True).start()

    def _poll(self, host):
        while not self._ended.wait(POLL_SECONDS):
            for name, values in NOTICES.items():
                if _metadata(host, name) in values:
                    self.notice(f"{name} of the metadata server")

    def notice(self, reason: str) -> None:
        """Takes down the first notice, and hands it on."""
        if self.reason is None:
            self.reason = reason
            doing = "Leaving"
            if self.at_stake:
                doing = "Saving after the step in flight"
            log.info(f"\nNotice: {reason}. {doing} ...")
            self._end_loop()


def _metadata_host():
    """Returns the address of the metadata server, None where there is none."""
    if os.environ.get("GCE_METADATA_HOST"):  # as in Google's own libraries
        return os.environ["GCE_METADATA_HOST"]
    try:
        with open("/sys/class/dmi/id/product_name") as file:
            product = file.read()
    except OSError:  # no such file: not a machine of Google Cloud
        return None
    if "Google" in product:
        return "metadata.google.internal"
    return None


def _metadata(host, name):
    """Returns a value of the metadata server, None while it does not answer."""
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/{name}", headers={"Metadata-Flavor": "Google"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=2) as answer:
            return answer.read().decode().strip()
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return None  # it is asked again in a second
