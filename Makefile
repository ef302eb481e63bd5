# make demo [VIDEO=drive.mp4]   install into .venv and mark a video, or the clip demo:
# make test                     install into .venv and run all checks
# make cuda [CUDA=12]           install what an NVIDIA GPU needs into .venv; see docs/gpu.md
# make lock                     write locks/ anew, after a change of pyproject.toml or constraints.txt
# make audit                    look up known vulnerabilities of everything in locks/
# PYTHON=python3.12 chooses the interpreter; 3.10 to 3.13 will do.

PYTHON ?=
VIDEO ?=
CUDA ?= 13
VENV := .venv
RUN := $(VENV)/bin/python
# The versions of TensorRT whose names and signatures the tests check; 1 MB each, never installed.
BINDINGS := 10.16.1.11 11.4.0.106

# Packages come with the hashes of locks/, the program itself and PyCUDA are built with what is there.
PIP := $(RUN) -m pip --quiet --disable-pip-version-check
LOCKED := $(PIP) install --require-hashes
OURS := $(PIP) install --no-deps --no-build-isolation --editable .

.PHONY: audit cuda demo lock test
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

cuda: $(VENV)/installed-cuda$(CUDA)
	$(RUN) run_pipeline.py doctor

$(VENV)/installed: pyproject.toml locks/base.txt | $(VENV)/bin/python
	@echo "Installing SqueezeDrive's dependencies into $(VENV) ..."
	@$(LOCKED) -r locks/base.txt && $(OURS)
	@touch $@

$(VENV)/installed-test: pyproject.toml locks/test.txt | $(VENV)/bin/python
	@echo "Installing SqueezeDrive's dependencies and test tools into $(VENV) ..."
	@$(LOCKED) -r locks/test.txt && $(OURS)
	@for version in $(BINDINGS); do \
		$(RUN) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
			--dest $(VENV)/tensorrt-bindings tensorrt-cu13-bindings==$$version || \
		echo "No bindings of TensorRT $$version here: their tests will be skipped."; \
	done
	@touch $@ $(VENV)/installed

# PyCUDA comes as source, which asks for CUDA's headers, cuRAND and libcuda. The headers are those of
# NVIDIA's packages; cuRAND is left out; what it is linked against is an empty library of the
# driver's name, so that neither a driver nor a toolkit has to be there and the driver is found when
# it runs. Numba-CUDA might load NVVM of one CUDA and nvJitLink of another: an environment has one.
PYCUDA := $(VENV)/pycuda-source
define SITECONF
CUDA_ROOT = None
CUDA_INC_DIR = __import__("glob").glob("$(abspath $(VENV))/lib/python*/site-packages/nvidia/$(CUDA_FOLDER)/include")
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O1", "-g0", "-w"]
LDFLAGS = ["-L$(abspath $(PYCUDA))", "-Wl,--no-as-needed", "-lcuda"]
CUDADRV_LIB_DIR = ["$(abspath $(PYCUDA))"]
endef
export SITECONF
CUDA_FOLDER := $(if $(filter 12,$(CUDA)),cuda_*,cu13)

$(VENV)/installed-cuda$(CUDA): pyproject.toml $(wildcard locks/cuda$(CUDA).txt) locks/pycuda.txt | $(VENV)/bin/python
	@case "$(CUDA)" in 12|13) ;; *) \
		echo "error: CUDA=$(CUDA): expected 13, or 12 for drivers before 580" >&2; exit 2;; esac
	@for other in $(filter-out $@,$(wildcard $(VENV)/installed-cuda*)); do \
		echo "error: $(VENV) has the packages of another CUDA; first: rm -r $(VENV)" >&2; exit 2; done
	@command -v g++ >/dev/null || { \
		echo "error: no g++, which PyCUDA is compiled with;" \
			"on Debian or Ubuntu: apt install g++ python3-dev" >&2; exit 2; }
	@$(RUN) -c 'import os, sys, sysconfig as s; \
		sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' || { \
		echo "error: no Python.h, which PyCUDA is compiled with;" \
			"on Debian or Ubuntu: apt install python3-dev" >&2; exit 2; }
	@rm -rf $(PYCUDA) && mkdir $(PYCUDA)
	@echo "1/2 Installing SqueezeDrive, Numba-CUDA and NVIDIA's packages for CUDA $(CUDA) into $(VENV) ..."
	@$(LOCKED) -r locks/cuda$(CUDA).txt && $(OURS)
	@echo "2/2 Compiling PyCUDA, which takes 2 to 8 minutes ..."
	@$(PIP) download --require-hashes -r locks/pycuda.txt --no-deps --no-build-isolation \
		--no-binary pycuda --dest $(PYCUDA)
	@tar -xzf $(PYCUDA)/pycuda-*.tar.gz -C $(PYCUDA) && rm $(PYCUDA)/pycuda-*.tar.gz
	@echo "$$SITECONF" >$$(echo $(PYCUDA)/pycuda-*)/siteconf.py
	@g++ -shared -x c++ /dev/null -Wl,-soname,libcuda.so.1 -o $(PYCUDA)/libcuda.so
	@$(PIP) install --no-build-isolation --force-reinstall --no-deps \
		./$$(echo $(PYCUDA)/pycuda-*)
	@rm -r $(PYCUDA)
	@touch $@ $(VENV)/installed

# One file of each environment, for all platforms and Pythons. setuptools builds the program; PyCUDA
# is compiled from its source with NumPy, which is there. uv reads only, and writes what pip reads.
UV = uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock" -c constraints.txt

lock:
	@command -v uv >/dev/null || { echo "error: no uv, which resolves: pip install uv" >&2; exit 2; }
	@mkdir -p locks
	echo setuptools | $(UV) pyproject.toml - -o locks/base.txt
	echo setuptools | $(UV) pyproject.toml - --extra test -o locks/test.txt
	for cuda in 12 13; do printf 'setuptools\npycuda\n' | $(UV) pyproject.toml - \
		--extra kernels$$cuda --extra nvdec --no-emit-package pycuda -o locks/cuda$$cuda.txt; done
	echo pycuda | $(UV) - --no-deps -o locks/pycuda.txt

audit:
	@command -v uvx >/dev/null || { echo "error: no uvx: pip install uv" >&2; exit 2; }
	for lock in locks/*.txt; do uvx pip-audit --require-hashes --disable-pip -r $$lock || exit; done

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
