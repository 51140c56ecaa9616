# make demo      name photographs, train on digits, export, verify, classify (about 5 minutes)
# make test      the tests, as CI runs them (about 15 minutes)
# make test-all  also every variant and the demo (about half an hour)
# make lint      errors, order of imports, format: in seconds (ruff)
# make types     the annotations, and a program of somebody who checks types (mypy)
# make docs      the site, with an API reference, into site/
# make bench     the quick ones of benchmarks/, and the tables of docs/benchmarks.md (about 25 minutes)
# make parity    the table of differences from the original code, of docs/fidelity.md
# make processors  the tests that depend on the processor, on fewer of its instructions
# make versions    a smoke test of each Python and of the oldest packages that setup.py admits
#
# Each sets itself up: demo in .venv, everything else in .venv-test. With another TensorFlow,
# in .venv-gpu or .venv-tpu: make demo TENSORFLOW=gpu (or tpu). The packages are those that the
# tests passed with (constraints.txt); with LATEST=1 they are today's, in .venv-test-latest.

TENSORFLOW ?= cpu
PYTHON ?= $(shell tools/find_python.sh)
KIND = $(patsubst %,-%,$(filter-out cpu,$(TENSORFLOW)))$(if $(LATEST),-latest)
VENV ?= .venv$(KIND)
TEST_VENV ?= .venv-test$(KIND)
CONSTRAINTS = constraints$(patsubst %,-%,$(filter tpu,$(TENSORFLOW))).txt
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check \
	$(if $(LATEST),,--constraint $(CONSTRAINTS))
RUN_TESTS = $(TEST_VENV)/bin/python -m tests.run
export TF_CPP_MIN_LOG_LEVEL ?= 2
# What another environment says must not reach these.
unexport PYTHONPATH PYTHONHOME

.PHONY: demo test test-all lint types docs bench parity processors versions constraints clean

demo: $(VENV)/demo-ready
	$(VENV)/bin/python tools/demo.py

test: $(TEST_VENV)/test-ready
	$(RUN_TESTS)

test-all: $(TEST_VENV)/test-ready
	$(RUN_TESTS) -m "slow or not slow"

lint: $(TEST_VENV)/test-ready
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .

types: $(TEST_VENV)/test-ready
	$(TEST_VENV)/bin/python -m mypy
	$(TEST_VENV)/bin/python -m mypy --strict --follow-imports=silent tests/typing/user.py

docs: $(TEST_VENV)/docs-ready
	$(TEST_VENV)/bin/python -m mkdocs build --strict --quiet

bench: $(TEST_VENV)/bench-ready
	for program in start inference export_size training_step tables; do \
	  $(TEST_VENV)/bin/python benchmarks/$$program.py || exit; done

parity: $(TEST_VENV)/test-ready
	$(TEST_VENV)/bin/python -m tests.helpers.goldens

processors: $(TEST_VENV)/test-ready
	TF_ENABLE_ONEDNN_OPTS=0 $(RUN_TESTS) -m "processor and not slow"
	@# Of bfloat16 TensorFlow asks oneDNN all the same, which then ends the process.
	ONEDNN_MAX_CPU_ISA=AVX2 $(RUN_TESTS) -m "processor and not slow" -k "not half"

versions:
	$(PYTHON) tools/versions.py

constraints:
	$(PYTHON) tools/versions.py --write_constraints

# A stamp per environment: made anew when the wanted packages change.
$(VENV)/demo-ready $(TEST_VENV)/test-ready $(TEST_VENV)/docs-ready $(TEST_VENV)/bench-ready: setup.py $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "effnet_tf needs Python 3.11, 3.12 or 3.13, and none of" \
	  "python3, python3.11, python3.12 and python3.13 is one. Name it: make PYTHON=..." >&2; exit 1; }
	@test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	@echo "Installing TensorFlow ($(TENSORFLOW)) and effnet_tf into $(@D); this takes some minutes ..."
	$(@D)/bin/python $(PIP_INSTALL) -e '.[$(TENSORFLOW),$(patsubst %-ready,%,$(@F))]'
	$(if $(filter test-ready,$(@F)),$(@D)/bin/python $(PIP_INSTALL) --no-deps tf_keras)
	@touch $@

clean:
	rm -rf $(VENV) $(TEST_VENV) build dist site *.egg-info
