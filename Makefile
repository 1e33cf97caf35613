# A thin door to meson and tool/: each target first installs what it lacks (tool/deps).
# `make help` lists them.

BUILD ?= build
PREFIX ?= /usr/local
MINUTES ?= 60
PYTHON = python3
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: all help demo check check-guest check-san check-full soak bench bench-compare sim mutants \
	install clean deps-%
.DEFAULT_GOAL := all
# The targets share build folders and the machine's two cores.
.NOTPARALLEL:

deps-%:
	@sh tool/deps $*

$(BUILD)/build.ninja: | deps-build
	CC=gcc meson setup --prefix $(PREFIX) $(BUILD)

all: deps-build $(BUILD)/build.ninja
	ninja -C $(BUILD)

demo: deps-build deps-guest all
	@$(PYTHON) test/guest/test_demo.py

check: deps-check
	@$(PYTHON) tool/runtests check

check-guest: deps-guest
	@$(PYTHON) tool/runtests check-guest

check-san: deps-check deps-san
	@$(PYTHON) tool/runtests check-san

check-full: deps-check deps-guest deps-san
	@$(PYTHON) tool/runtests check-full

soak: deps-check deps-guest deps-san
	@MINUTES=$(MINUTES) $(PYTHON) tool/runtests soak

bench: deps-bench all
	@$(PYTHON) bench/run.py $(if $(ROWS),--rows '$(ROWS)')

bench-compare:
	@$(PYTHON) bench/compare.py $(OLD) $(BUILD)/bench.json

sim: all
	@$(BUILD)/sim/caisson-sim --seed $(SEED)

mutants: deps-check all
	@$(PYTHON) tool/mutants.py

install: all
	meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) build-clang build-asan build-tsan build-mutants

help:
	@sed -n 's/^## \{0,1\}//p' $(MAKEFILE_LIST)

## make                       build the daemon: build/caisson
## make demo                  a Linux guest does verified I/O while disks are plugged and unplugged
## make check                 both compilers, static checkers, unit tests, exploration, fault sweep
## make check-guest           guests and other people's clients
## make check-san             sanitizers, stress, simulation, fuzzing, mutants
## make check-full            the three above
## make soak MINUTES=n        the guest and sanitizer tests with loops of n minutes
## make bench [ROWS=glob]     benchmarks against peers: a table and build/bench.json
## make bench-compare OLD=f   that table against an older one
## make sim SEED=n            replay one simulated run
## make mutants               put known bugs back one by one: each must be caught
## make install [PREFIX=dir]  /usr/local unless given (DESTDIR is honoured)
## make clean                 remove the build folders
##
## Lengths, from the environment (default):
##   JOBS (all cores)         programs that run at the same time
##   STRESS_SECONDS (60)      seconds of stress under TSan
##   FUZZ_SECONDS (20)        seconds for each fuzz target
##   FAULTS (100)             places of a kind where the fault sweep lets a call fail
##   SIM_SEEDS (100)          simulated runs; SIM_FIRST (1) is the first seed
##   PLUG_CYCLES (200)        plugs and unplugs of a disk under I/O
##   HBA_CYCLES (20)          plugs and unplugs of a whole HBA
##   DEMO_CYCLES (20)         plugs and unplugs in the demonstration
##   IDLE_SECONDS (20)        seconds over which an idle daemon is watched
##   T_GUEST (60)             seconds a test waits for one thing in a guest
## Others:
##   CAISSON_CACHE (~/.cache/caisson-guest)  where the guest's kernel and initramfs are kept
##   CAISSON_ACCEL=tcg|kvm    accelerator of guests (KVM only where a probe guest boots with it)
##   CAISSON_NO_DEPS=1        install nothing: everything is there
