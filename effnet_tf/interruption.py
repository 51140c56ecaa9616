"""Is this machine about to be taken away?

SIGTERM, and the notice of Google Cloud's metadata server: a preempted spot machine has
about 30 seconds. (TensorFlow's own PreemptionCheckpointHandler does not work on TPUs.)
"""

import http.client
import os
import signal
import socket
import threading
import urllib.request

POLL_SECONDS = 1.0
# https://cloud.google.com/compute/docs/instances/preemptible: instance/preempted;
# TPU VMs announce maintenance, which ends them, in instance/maintenance-event.
NOTICES = {"preempted": ("TRUE",),
           "maintenance-event": ("TERMINATE_ON_HOST_MAINTENANCE",)}


class Preempted(Exception):
    """The run has saved its state and ends, because the machine will be taken away."""


class Interruption:
    """A context manager that watches for notices of the end.

    A thread calls `on_notice` at once, even while the main thread is inside TensorFlow,
    where Python's signal handlers do not run.

    Attributes:
        reason: None, or the notice in words.
    """

    def __init__(self):
        self.reason = None
        self.on_notice = None
        self._ended = threading.Event()

    def __enter__(self):
        self._signals = None
        if threading.current_thread() is threading.main_thread():
            self._watch_signals()
        else:
            print("Not in the main thread: SIGTERM is not watched.")
        host = _metadata_host()
        if host:
            print(f"Watching the metadata server {host} for a preemption notice.")
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
        handler = signal.signal(signal.SIGTERM, lambda *_: None)
        self._signals = handler, wakeup, ours, theirs
        self._thread = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._thread.start()

    def _read(self, sock):
        while received := sock.recv(64):
            if signal.SIGTERM in received:
                self.notice("SIGTERM")

    def _poll(self, host):
        while not self._ended.wait(POLL_SECONDS):
            for name, values in NOTICES.items():
                if _metadata(host, name) in values:
                    self.notice(f"{name} of the metadata server")

    def notice(self, reason):
        """Takes down the first notice, and hands it on."""
        if self.reason is None:
            self.reason = reason
            print(f"\nNotice: {reason}. Saving after the step in flight ...", flush=True)
            if self.on_notice:
                self.on_notice()


def _metadata_host():
    """Returns the address of the metadata server, None where there is none."""
    if os.environ.get("GCE_METADATA_HOST"):  # as in Google's own libraries
        return os.environ["GCE_METADATA_HOST"]
    try:
        with open("/sys/class/dmi/id/product_name") as file:
            return "metadata.google.internal" if "Google" in file.read() else None
    except OSError:  # no such file: not a machine of Google Cloud
        return None


def _metadata(host, name):
    """Returns a value of the metadata server, None while it does not answer."""
    request = urllib.request.Request(f"http://{host}/computeMetadata/v1/instance/{name}",
                                     headers={"Metadata-Flavor": "Google"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=2) as answer:
            return answer.read().decode().strip()
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return None  # it is asked again in a second
