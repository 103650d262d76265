# make          builds the library and the command, build/fovea
# make bench    measures this machine: a table here, a page and samples in build/bench
# make check    compares every implementation with the reference
# make test     everything that is tested
# make mutants  whether the check sees kernels that are broken on purpose
# make peers    installs what bench compares with besides NumPy: PyTorch, OpenVINO, ...
# make wheel    the package for Python, to dist
# make wheel-test  pip installs the package into a new environment and runs the README's example
# make install  to PREFIX (/usr/local), under DESTDIR
PRESET = release
PREFIX = /usr/local
BUILD = build/$(PRESET)
# In CI warnings are errors, and PTX, for devices to come, is not made: a quarter of the time of CUDA.
OPTIONS = $(if $(CI),-DFOVEA_WERROR=ON -DFOVEA_CUDA_PTX=)

.PHONY: all packages python bench check test mutants peers wheel wheel-test install clean

all: packages $(BUILD)/build.ninja
	cmake --build $(BUILD)
	@ln -sfn $(PRESET)/bin/fovea build/fovea

$(BUILD)/build.ninja: CMakeLists.txt CMakePresets.json
	cmake --preset $(PRESET) $(OPTIONS)

packages:
	@scripts/install-packages

python: packages
	@scripts/python-env

bench: all python
	@mkdir -p build/bench
	build/fovea bench --json build/bench/bench.json
	build/fovea report build/bench/bench.json --output build/bench/report.html

check: all
	OMP_WAIT_POLICY=passive build/fovea check

test: all python
	@tests/run

mutants: all
	@tests/mutants/run

peers: python
	@scripts/python-env --peers

wheel: python
	@scripts/python-wheel

wheel-test: packages
	@scripts/python-wheel-test

install: all
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig || echo "Run ldconfig, so that programs find the library."

clean:
	cmake -E rm -rf $(BUILD) build/fovea
