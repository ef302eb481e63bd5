# make demo [VIDEO=drive.mp4]   install into .venv and mark a video, or the clip demo:
# make test                     install into .venv and run all checks
# PYTHON=python3.12 chooses the interpreter; 3.10 to 3.13 will do.

PYTHON ?=
VIDEO ?=
VENV := .venv
RUN := $(VENV)/bin/python
# The versions of TensorRT whose names and signatures the tests check; 1 MB each, never installed.
BINDINGS := 10.16.1.11 11.4.0.106

.PHONY: demo test
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@mkdir -p out
	@name=$$(basename "$(VIDEO)"); name=$${name%.*}; output="out/$${name:-demo}.detected.mp4"; \
	$(RUN) run_pipeline.py "$(or $(VIDEO),demo:)" --output "$$output" --overwrite && \
	echo "The result is in $(CURDIR)/$$output"

test: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2 --dist loadfile  # by file: what a file sets up is set up once

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing SqueezeDrive's dependencies into $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing SqueezeDrive's dependencies and test tools into $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[test]'
	@for version in $(BINDINGS); do \
		$(RUN) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
			--dest $(VENV)/tensorrt-bindings tensorrt-cu13-bindings==$$version || \
		echo "No bindings of TensorRT $$version here: their tests will be skipped."; \
	done
	@touch $@ $(VENV)/installed

# The interpreter has to be run to know whether it works: version managers leave dead links.
# Debian's python3 comes without ensurepip, so there are three more ways to a pip.
$(VENV)/bin/python:
	@found=; for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10); do \
		"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
			2>/dev/null || continue; \
		found="$$python"; \
		echo "Creating $(VENV) with $$("$$python" --version) ..."; \
		"$$python" -m venv --clear $(VENV) >/dev/null 2>&1 && exit 0; \
		"$$python" -m virtualenv --quiet --clear $(VENV) 2>/dev/null && exit 0; \
		uv venv --quiet --seed --clear --python "$$python" $(VENV) 2>/dev/null && exit 0; \
		"$$python" -m venv --clear --without-pip $(VENV) 2>/dev/null && \
			"$$python" -m pip --python $(VENV)/bin/python install --quiet pip 2>/dev/null && exit 0; \
		rm -rf $(VENV); \
	done; \
	if [ "$$found" ]; then \
		echo "error: $$found can create no virtual environment with pip;" \
			"on Debian or Ubuntu: apt install python3-venv" >&2; \
	else \
		echo "error: no Python 3.10 to 3.13 among: $(or $(PYTHON),python3 and python3.10 to .13);" \
			"name one: make PYTHON=/path/to/python3.12" >&2; \
	fi; \
	exit 2
