# make demo [VIDEO=drive.mp4]   install into .venv and mark a video, or the clip demo:
# make test                     install into .venv and run all checks
# make cuda [CUDA=12]           install what an NVIDIA GPU needs into .venv; see docs/gpu.md
# PYTHON=python3.12 chooses the interpreter; 3.10 to 3.13 will do.

PYTHON ?=
VIDEO ?=
CUDA ?= 13
VENV := .venv
RUN := $(VENV)/bin/python
# The versions of TensorRT whose names and signatures the tests check; 1 MB each, never installed.
BINDINGS := 10.16.1.11 11.4.0.106

.PHONY: cuda demo test
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

$(VENV)/installed-cuda$(CUDA): pyproject.toml constraints.txt | $(VENV)/bin/python
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
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--editable '.[kernels$(CUDA),nvdec]'
	@echo "2/2 Compiling PyCUDA, which takes 2 to 8 minutes ..."
	@$(RUN) -m pip download --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--no-binary pycuda --dest $(PYCUDA) pycuda
	@tar -xzf $(PYCUDA)/pycuda-*.tar.gz -C $(PYCUDA) && rm $(PYCUDA)/pycuda-*.tar.gz
	@echo "$$SITECONF" >$$(echo $(PYCUDA)/pycuda-*)/siteconf.py
	@g++ -shared -x c++ /dev/null -Wl,-soname,libcuda.so.1 -o $(PYCUDA)/libcuda.so
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--force-reinstall --no-deps ./$$(echo $(PYCUDA)/pycuda-*)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt pycuda
	@rm -r $(PYCUDA)
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
