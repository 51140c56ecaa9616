# make demo      train on handwritten digits, export, verify, classify (about 5 minutes)
# make test      the tests, as CI runs them
# make test-all  also every variant and the demo (about half an hour)
# make parity    the README's table of differences from the original code
#
# Each sets itself up in .venv. With another TensorFlow, in .venv-gpu or .venv-tpu:
# make demo TENSORFLOW=gpu (or tpu).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TENSORFLOW ?= cpu
VENV ?= .venv$(patsubst %,-%,$(filter-out cpu,$(TENSORFLOW)))
BIN = $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-all parity clean

demo: $(VENV)/demo-ready
	$(BIN)/python tools/demo.py

test: $(VENV)/test-ready
	$(BIN)/python -m pytest -n 2 -q

test-all: $(VENV)/test-ready
	$(BIN)/python -m pytest -n 2 -q -m "slow or not slow"

parity: $(VENV)/test-ready
	$(BIN)/python -m tests.goldens

# A stamp per set of packages: made anew when setup.py changes.
$(VENV)/%-ready: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "effnet_tf needs Python 3.11 or later; this is " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow ($(TENSORFLOW)) and effnet_tf into $(VENV); this takes some minutes ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(TENSORFLOW),$*]'
	$(if $(filter test,$*),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps tf_keras)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info runs
