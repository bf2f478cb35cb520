# Everything runs in .venv, which `make venv` builds. Every target can be repeated at will.
# A .venv that make did not create is used as it is, with the sources of this folder on the path.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MARK := $(VENV)/.created-by-make
STAMP := $(VENV)/.installed
BENCHMARKED := $(VENV)/.installed-for-bench
CMAKE = $(firstword $(wildcard $(abspath $(BIN))/cmake) cmake)
NATIVE_SOURCES := $(shell find native integrations -name '*.cpp' -o -name '*.h')
FORMATTED := $(wildcard src tests examples benchmarks docs reproduce cmake)
ARGS ?=
JOBS ?= auto
MINUTES ?= 1
SEED ?=
SAMPLE ?= 200

.DEFAULT_GOAL := help
.PHONY: help venv native aarch64 sanitize fuzz faults mutants coverage lowest audit wheels demo test test-all lint format docs bench clean

help:
	@echo "make venv      install everything into $(VENV)"
	@echo "make demo      train, export, verify, time and report a small network (some minutes)"
	@echo "make test      the fast tests on JOBS (auto) processes; test-all adds the slow ones"
	@echo "make lint      ruff, mypy --strict, clang-format; format repairs what it can"
	@echo "make bench     time the engines against each other (a quarter of an hour)"
	@echo "make native    build the engine into src/, for work from the source tree"
	@echo "make aarch64   cross-compile the libraries and C programs for 64-bit ARM into build/aarch64"
	@echo "make sanitize  executor, operators, delegate, forged plans and impossible specs under the sanitizers"
	@echo "make fuzz      random graphs, hostile ONNX files and forged plans for MINUTES (1), from a fresh SEED"
	@echo "make faults    kill -9, full disks, little memory, threads, forks, load cycles: counts (some minutes)"
	@echo "make mutants   SAMPLE small faults in the compiler's passes, the masks and the planner: do tests notice? (hours)"
	@echo "make coverage  the fast tests, and which branches of the Python code they reach (build/coverage)"
	@echo "make lowest    the engine's tests with the lowest versions pyproject.toml allows"
	@echo "make audit     known vulnerabilities of the pinned packages; a bill of materials in dist"
	@echo "make wheels    wheels in dist for this machine and 64-bit ARM, a Python each, checked and tried (ARGS='--machine aarch64': only ARM's)"
	@echo "make docs      the documentation as a site, in build/site"
	@echo "make clean     remove what was built; $(VENV) stays"

ifeq ($(if $(wildcard $(BIN)/python),$(wildcard $(MARK)),own),)
export PYTHONPATH := $(CURDIR)/src
venv: native
else
venv: $(STAMP)
	@:
endif

$(MARK):
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch and torchvision first and together: their versions belong to each other.
$(STAMP): $(MARK) pyproject.toml constraints.txt CMakeLists.txt $(NATIVE_SOURCES) native/kernels/table.inc
	$(BIN)/pip install -q $$(grep -E '^(torch|torchvision)==' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt scikit-build-core nanobind cmake ninja
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e ".[dev,engines,litert]"
	touch $@

native:
	$(CMAKE) -S . -B build/native -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE=$(abspath $(BIN)/python) > build-native.log 2>&1 || (cat build-native.log; false)
	$(CMAKE) --build build/native -j 2
	# By renaming: a process that has the old library mapped would crash if its bytes changed.
	for library in build/native/libactivsparse_onnxruntime.so build/native/libactivsparse_litert.so build/native/_native*.so; do \
	  cp $$library src/activsparse/.native.tmp && mv src/activsparse/.native.tmp src/activsparse/$$(basename $$library) || exit 1; \
	done
	rm -f build-native.log

aarch64:
	$(CMAKE) -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DACTIVSPARSE_PYTHON=OFF
	$(CMAKE) --build build/aarch64 -j 2

sanitize:
	for kind in address undefined thread; do \
	  $(CMAKE) -S . -B build/sanitize-$$kind -DACTIVSPARSE_SANITIZE=$$kind -DACTIVSPARSE_PYTHON=OFF \
	    && $(CMAKE) --build build/sanitize-$$kind -j 2 && build/sanitize-$$kind/executor_stress \
	    && build/sanitize-$$kind/plan_damage || exit 1; \
	done
	$(CMAKE) -S . -B build/sanitize-operators -DACTIVSPARSE_SANITIZE=operators -DACTIVSPARSE_PYTHON=OFF
	$(CMAKE) --build build/sanitize-operators -j 2
	build/sanitize-operators/executor_stress
	build/sanitize-operators/kernel_check
	build/sanitize-operators/plan_forger 2600
	build/sanitize-operators/spec_thrower 10000
	cd tests/native && PYTHONPATH=.:$(CURDIR)/src $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider -p emulated \
	  --emulated-isa=$(shell uname -m | sed 's/x86_64/avx2/; s/aarch64/neon/') \
	  --emulator=$(CURDIR)/build/sanitize-operators/operator_server \
	  test_conv.py test_winograd.py test_winograd_chequered.py test_winograd_stem.py test_conv_max_pool.py \
	  test_inverted_residual.py test_operators.py test_bytes.py -k "not threads and not reference and not specs" -m "not slow"
	# The delegate inside LiteRT, which has to find the sanitizers' libraries loaded.
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=tests/native:src $(BIN)/python -m pytest -q -p no:cacheprovider \
	  -p delegate_from --delegate build/sanitize-operators/libactivsparse_litert.so \
	  tests/engine/test_litert_delegate.py tests/engine/test_litert_int8.py -m "not slow" \
	  -k "wide or skipped or odd or dynamic or resizing or random or convolutions or others or joined or uint8"

# What fails lands in build/fuzz, random graphs shrunk and each with the command that repeats it.
fuzz: venv
	sh tests/fuzz/run.sh $(BIN)/python $(MINUTES) $(SEED)

faults: venv
	PYTHONPATH=src:tests:tests/engine $(BIN)/python -m faults $(ARGS)

mutants: venv
	PYTHONPATH=src:tests:tests/engine $(BIN)/python -m mutants --sample $(SAMPLE) $(if $(SEED),--seed $(SEED)) $(ARGS)

# The command line's processes count too.
coverage: venv
	rm -f build/coverage/data*
	$(BIN)/python -m coverage run -m pytest -m "not slow" $(ARGS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage html -q
	$(BIN)/python -m coverage report --skip-covered

lowest: venv
	sh tests/lowest.sh $(BIN)/python

audit: venv
	sh tests/audit.sh $(BIN)/python

wheels: venv
	$(BIN)/python cmake/wheels.py --out dist $(ARGS)

demo: venv
	$(BIN)/python examples/demo.py --out demo_out $(ARGS)

# Side by side on JOBS processes, each of one thread; JOBS=0 is one after the other.
test: venv
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

test-all: venv
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: venv
	$(BIN)/ruff check $(FORMATTED)
	$(BIN)/ruff format --check $(FORMATTED)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(NATIVE_SOURCES)

format: venv
	$(BIN)/ruff check --fix-only -q $(FORMATTED)
	$(BIN)/ruff format $(FORMATTED)
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

# Links that lead nowhere fail it. Nothing is fetched, and the pages fetch nothing.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: venv $(if $(wildcard $(MARK)),$(BENCHMARKED))
	$(BIN)/python benchmarks/run.py $(ARGS)

# XNNPACK comes with ExecuTorch, which is large and which nothing else here needs.
$(BENCHMARKED): $(STAMP)
	$(BIN)/pip install -q -c constraints.txt executorch
	touch $@

clean:
	rm -rf build dist demo_out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f src/activsparse/*.so
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
