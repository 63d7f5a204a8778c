# steer.c. `make` builds the programs and says what it found; `make help` lists the targets.
# Each program is one translation unit over the headers in llmc/ and compiles as C. Linked to it are the kernels, made once: for the CPU
# llmc/cpu/backend.c, and llmc/cpu/level.c as often as there are instruction sets (LEVELS); for the GPU llmc/cuda/backend.cu:
#     CUDA=1        compiled by nvcc for a GPU (what you get by default where nvcc and a GPU are found; CUDA=0 leaves it out)
#     CUDA=emulate  compiled by the C++ compiler and run on the CPU by dev/cuda_on_cpu, with every check switched on
# To set on the command line: CC, CXX, CFLAGS, CPPFLAGS, LDFLAGS, OPENMP=0 (one thread), GPU_ARCH='80 90 100', CUDA_HOME,
# MPI=0 or 1, NCCL=0 or 1, NCCL_HOME, DEVICE=cuda or emulate (for demo), MODEL=DIR (for bench), BUILD=DIR (objects; programs, unless it is build).
SOURCES := train_steer.cu eval_steer.cu test_steer.c
BUILD ?= build
BIN := $(if $(filter-out build,$(BUILD)),$(BUILD)/)
PROGRAMS := $(addprefix $(BIN),$(basename $(SOURCES)))
MAKEFLAGS += --no-builtin-rules # they would make things of the lists of headers
GOALS := $(or $(MAKECMDGOALS),all)
CORES = $(or $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null),1)
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
CUDA := $(or $(patsubst cuda,1,$(filter cuda emulate,$(DEVICE))),$(CUDA))
GPU_ARCH ?= 80 90 100 # compute capabilities without the point
KERNEL_FLAGS := $(if $(filter undefined,$(origin CFLAGS)),-O3) # they alone gain from it; a program so takes half as long again to compile
CFLAGS ?= -O2

# What this machine has: CC, LEVELS and FLAGS_<level>, THREADS, LIBS, MISSING, CUDA, MPI and NCCL. make predefines CC, so ?= never took effect.
ifneq ($(filter-out help clean format format-check,$(GOALS)),)
PROBE := $(foreach v,CFLAGS CPPFLAGS LDFLAGS OPENMP CUDA CUDA_HOME GPU_ARCH MPI NCCL NCCL_HOME $(filter FLAGS_%,$(.VARIABLES)),$v='$(strip $($v))')
$(shell $(PROBE) CC='$(if $(filter default,$(origin CC)),,$(CC))' scripts/probe.sh $(BUILD)/probe.mk >&2)
include $(BUILD)/probe.mk
$(if $(SETUP_RAN),,$(if $(filter all test demo,$(GOALS)),$(info $(REPORT))))
endif

.DELETE_ON_ERROR: # a command that fails leaves no half-made file that looks up to date
.PHONY: all test demo check check-ports bench format format-check help clean FORCE
all: $(PROGRAMS) ## build the three programs and say what was found (the default)
	@echo 'built: $(PROGRAMS). Next: make test, make demo, make help'

# -ffp-contract=off: results must not depend on where a compiler finds a multiply and an add to fuse.
BACKEND := $(patsubst %,$(BUILD)/%.o,$(if $(filter 1,$(CUDA)),backend,$(if $(filter emulate,$(CUDA)),backend_fast cuda_on_cpu)))
DIALECT := -std=gnu11 -x c
BASE_FLAGS := -ffp-contract=off -Wall -Wextra -Werror -Wno-psabi -I. $(PROBED_FLAGS)
STEER_FLAGS := $(BASE_FLAGS) $(foreach l,$(LEVELS),-DLLMC_LEVEL_$l=cpu_level_$l) $(if $(BACKEND),-DLLMC_CUDA)
COMPILE = $(CC) $(CPPFLAGS) $(CFLAGS) $(DIALECT) $(STEER_FLAGS)
# What only the programs of several ranks take. Not `private` variables of theirs: macOS has make 3.81, which knows none.
RANKS_PROGRAMS := $(if $(MPI_WORKS),$(BIN)train_steer $(BUILD)/test_ranks)
RANKS_OBJECTS := $(if $(NCCL_WORKS),$(BUILD)/nccl$(if $(filter emulate,$(CUDA)),_fast).o)
ranks = $(if $(filter $@,$(RANKS_PROGRAMS)),$(RANKS_$1))
LINK = -o $@ $(LDFLAGS) $(LIBS) $(call ranks,LIBS) $(BACKEND_LIBS)
OBJECT = -MMD -MP -MF $(@:.o=.d) -c $< -o $@
PROGRAM = $(COMPILE) $(call ranks,FLAGS) -MMD -MP -MF $(BUILD)/$(@F).d -MT $@ $< -x none $(CPU) $(call ranks,OBJECTS) $(BACKEND) $(LINK)

# The CPU's kernels: an object a level, each with one function that the others call (llmc/cpu/cpu.h). test_simd, test_amx_emulated: the vector
# layer, and AMX's tiles without AMX. test_portable: what an unknown CPU runs. stray: a function that no level owns, for dev/test/strays.sh.
CPU := $(BUILD)/cpu_backend.o $(LEVELS:%=$(BUILD)/cpu_%.o)
TEST_OBJECTS := $(BUILD)/test_steer.o $(BUILD)/test_amx_emulated.o $(BUILD)/test_one_file.o $(patsubst %,$(BUILD)/test_simd_%.o,$(filter-out %_bf16 amx,$(LEVELS)))
STRAYS := $(patsubst %,$(BUILD)/stray_%.o,$(filter-out portable neon,$(LEVELS)))
NATIVE ?= -march=native
$(BIN)train_steer $(BIN)eval_steer: $(BIN)%: %.cu $(CPU) $(BACKEND) $(BUILD)/flags ; $(PROGRAM)
$(BUILD)/test_ranks: dev/test/ranks.c $(CPU) $(BACKEND) $(BUILD)/flags ; $(PROGRAM)
$(BUILD)/lab_%: dev/cpu/%.c $(CPU) $(BUILD)/flags ; $(COMPILE) $(KERNEL_FLAGS) $(NATIVE) $< -x none $(CPU) $(LINK)
$(BUILD)/bench_%: dev/bench/%.c $(CPU) $(BUILD)/flags ; $(COMPILE) $< -x none $(CPU) $(LINK)
$(RANKS_PROGRAMS): $(RANKS_OBJECTS)
$(BUILD)/cpu_backend.o: llmc/cpu/backend.c $(BUILD)/flags ; $(COMPILE) $(OBJECT)
$(LEVELS:%=$(BUILD)/cpu_%.o): $(BUILD)/cpu_%.o: llmc/cpu/level.c $(BUILD)/flags ; $(COMPILE) $(KERNEL_FLAGS) $(FLAGS_$*) -DSIMD=$* $(OBJECT)
$(BUILD)/test_steer.o: test_steer.c $(BUILD)/flags ; $(COMPILE) $(OBJECT)
$(BUILD)/test_amx_emulated.o: dev/test/amx_emulated.c $(BUILD)/flags ; $(COMPILE) $(OBJECT)
$(LEVELS:%=$(BUILD)/test_simd_%.o): $(BUILD)/test_simd_%.o: dev/test/simd_level.c $(BUILD)/flags ; $(COMPILE) $(FLAGS_$*) -DSIMD=$* $(OBJECT)
$(BUILD)/lab_column_sum: NATIVE := # the tests run it, wherever they are made
ONE_FILE = $(CC) $(CPPFLAGS) $(CFLAGS) $(KERNEL_FLAGS) -std=c11 -x c -pedantic -Wall -Wextra -Werror -I.
$(BUILD)/test_one_file.o: dev/test/one_file.c $(BUILD)/flags ; $(ONE_FILE) $(OBJECT)
$(BUILD)/steer_in_one_file: dev/doc/steer_in_one_file.c $(BUILD)/flags ; $(ONE_FILE) $< -o $@ $(LDFLAGS) -lm
$(STRAYS): $(BUILD)/stray_%.o: dev/test/stray.c $(BUILD)/flags ; $(COMPILE) $(FLAGS_$*) $(OBJECT)
$(BUILD)/cpu_backend_portable.o: llmc/cpu/backend.c $(BUILD)/flags ; $(CC) $(CPPFLAGS) $(CFLAGS) $(DIALECT) $(BASE_FLAGS) $(OBJECT)
$(BIN)test_steer: $(TEST_OBJECTS) $(CPU) $(BACKEND)
$(BUILD)/test_portable: $(TEST_OBJECTS) $(BUILD)/cpu_backend_portable.o $(BUILD)/cpu_portable.o $(BACKEND)
$(BUILD)/test_checked: $(TEST_OBJECTS) $(CPU) $(BUILD)/backend_checked.o $(BUILD)/cuda_on_cpu.o
$(BIN)test_steer $(BUILD)/test_portable $(BUILD)/test_checked: ; $(CC) $(CFLAGS) $(THREADS) $^ $(LINK)

# The CUDA backend. `checked` is compiled so that each access of a kernel to memory calls dev/cuda_on_cpu first.
NVCC_COMPILE = $(NVCC) -std=c++17 -O3 -I. -Werror all-warnings --fmad=true $(NCCL_FLAGS) $(NVCC_ARCH)
EMULATE = $(CXX) -std=c++17 -DCUDA_ON_CPU -ffp-contract=off -fno-strict-aliasing -fstack-clash-protection -Wall -Wextra -Werror -Wno-unknown-pragmas -g -Idev/cuda_on_cpu/shadow -I. -isystem $(CUDA_HOME)/include
$(BUILD)/backend.o $(BUILD)/nccl.o: $(BUILD)/%.o: llmc/cuda/%.cu $(BUILD)/flags ; $(NVCC_COMPILE) $(OBJECT)
$(BUILD)/backend_fast.o $(BUILD)/nccl_fast.o: $(BUILD)/%_fast.o: llmc/cuda/%.cu $(BUILD)/flags ; $(EMULATE) -O2 -x c++ $(OBJECT)
$(BUILD)/backend_checked.o: llmc/cuda/backend.cu $(BUILD)/flags ; $(EMULATE) -O1 -finline-functions -fsanitize=thread,alignment -x c++ $(OBJECT)
$(BUILD)/cuda_on_cpu.o: dev/cuda_on_cpu/cuda_on_cpu.cpp $(BUILD)/flags ; $(EMULATE) -O2 $(OBJECT)
-include $(wildcard $(BUILD)/*.d)

# Changes only when the compiler or a flag does; then everything is rebuilt. The build stops here if a library is missing.
$(BUILD)/flags: export FLAGS = $(CC_VERSION) $(COMPILE) $(LDFLAGS) $(LIBS) $(BACKEND_LIBS) $(if $(BACKEND),$(GPU_ARCH) $(CUDA_HOME)) $(RANKS_FLAGS) $(RANKS_LIBS)
$(BUILD)/flags: FORCE
	@test -z '$(MISSING)' || { printf '%s\n' 'error: not found: $(MISSING)' '  -> run scripts/setup.sh, or set CPPFLAGS=-I... and LDFLAGS=-L... to where they are' >&2; exit 1; }
	@mkdir -p $(BUILD); echo "$$FLAGS" | cmp -s - $@ || echo "$$FLAGS" > $@
# Suites that share a GPU would see each other's memory: -j 1. Under the emulator test_portable is not made, and an old one proves nothing.
ifneq ($(and $(MISSING),$(if $(SETUP_RAN),,not yet)),) # test and demo install what is missing, then start over, so that it is found
test demo: ; @CC='$(CC)' CPPFLAGS='$(CPPFLAGS)' LDFLAGS='$(LDFLAGS)' scripts/setup.sh && $(MAKE) --no-print-directory SETUP_RAN=1 $@
else
TEST_ALSO := $(if $(filter emulate,$(CUDA)),checked $(if $(NCCL_WORKS),ranks),portable $(if $(MPI_WORKS),ranks))
test: $(PROGRAMS) build/steer_in_one_file build/lab_column_sum $(TEST_ALSO:%=build/test_%) $(STRAYS) ## prove everything: no network, no GPU, no Python; ends in `N passed, N failed`
	@$(if $(filter emulate,$(CUDA)),rm -f build/test_portable; CXX='$(CXX)' CUDA_HOME='$(CUDA_HOME)' dev/test/emulated.sh,OMP_WAIT_POLICY=passive ./test_steer -j $(if $(BACKEND),1,$(CORES)))
demo: train_steer eval_steer ## evaluate the tiny model, train its vectors, evaluate again, draw both
	@DEVICE='$(DEVICE)' scripts/demo.sh
endif
check: $(PROGRAMS) build/steer_in_one_file build/lab_column_sum ## tests under ASan and UBSan; other compilers, C++17; cppcheck, shellcheck; a minute of fuzzing; two hosts
	@MAKE='$(MAKE)' CXX='$(CXX)' CFLAGS='$(CFLAGS)' LEVELS='$(LEVELS)' CORES='$(CORES)' dev/test/check.sh
check-ports: $(PROGRAMS) ## run on CPUs that are not here (older x86, ARM) by emulation, compile for macOS; needs scripts/setup.sh --ports
	dev/test/ports.sh
bench: eval_steer ## measure speed and how it changes with batch, lengths and threads; MODEL=DIR, PEERS=DIR compares with other programs
	@scripts/bench.sh $(or $(MODEL),data/tiny/model) $(PEERS)
format format-check: ## lay out all C and CUDA code as .clang-format says; name what is not laid out so
	@scripts/format.sh $(if $(filter %-check,$@),--check)
help: ## list the targets
	@sed -nE 's/^([a-z-]+( [a-z-]+)?):[^#]*## (.*)/make \1	\3/p' Makefile | expand -t 26
clean: ## remove what make built; trained vectors, results and .venv stay
	rm -rf build $(PROGRAMS)
