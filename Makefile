PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: native
# The extension module built into src/, for development from the source tree (PYTHONPATH=src).
native:
	cmake -S . -B build/native -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE=$(abspath $(BIN)/python) > build-native.log 2>&1 || (cat build-native.log; false)
	cmake --build build/native -j 2
	cp build/native/_native*.so src/activsparse/.native.tmp && mv src/activsparse/.native.tmp src/activsparse/$$(cd build/native && ls _native*.so)
	rm -f build-native.log
