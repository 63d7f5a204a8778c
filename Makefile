# steer.c. `make` builds the programs and says what it found; `make help` lists the targets.
#
# Each program is one translation unit over the headers in llmc/; the programs' .cu files compile as C. Linked to them are the
# kernels, which are made once: for the CPU llmc/cpu/backend.c, and llmc/cpu/level.c as often as there are instruction sets (LEVELS);
# for the GPU llmc/cuda/backend.cu:
#     CUDA=1        compiled by nvcc for a GPU (what you get by default where nvcc and a GPU are found; CUDA=0 leaves it out)
#     CUDA=emulate  compiled by the C++ compiler and run on the CPU by dev/cuda_on_cpu, with every check switched on
# DEVICE=cuda or emulate: who computes in `make demo`.
# To set on the command line: CC, CXX, CFLAGS, CPPFLAGS, LDFLAGS, OPENMP=0 (one thread), GPU_ARCH='80 90 100', CUDA_HOME,
# MPI=0 or 1, NCCL=0 or 1, NCCL_HOME, MODEL=DIR (for bench), BUILD=DIR (objects and, unless it is `build`, the programs).

SOURCES := train_steer.cu eval_steer.cu test_steer.c
BUILD ?= build
BIN := $(if $(filter-out build,$(BUILD)),$(BUILD)/)
PROGRAMS := $(addprefix $(BIN),$(basename $(SOURCES)))
LIBRARIES := cJSON GMP PCRE2 utf8proc libyaml
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules # they would make things of the lists of headers
GOALS := $(or $(MAKECMDGOALS),all)
CORES := $(or $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null),1)

ifeq ($(origin CC),default) # make predefines CC, so ?= would never take effect
CC := $(or $(firstword $(foreach c,gcc clang cc,$(if $(shell command -v $c 2>/dev/null),$c))),gcc)
endif
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
# The kernels of the CPU gain from -O3, and they alone; compiling all of a program so takes half as long again.
KERNEL_FLAGS := $(if $(filter undefined,$(origin CFLAGS)),-O3)
CFLAGS ?= -O2
# -ffp-contract=off: results must not depend on where a compiler finds a multiply and an add to fuse.
BASE_FLAGS := -ffp-contract=off -Wall -Wextra -Werror -Wno-psabi -I.

ifneq ($(filter -Ofast -ffast-math,$(CC) $(CFLAGS) $(CPPFLAGS)),)
$(error -Ofast and -ffast-math drop the checks for NaN and change results; steer.c is built without them)
endif
ifneq ($(filter cuda emulate,$(DEVICE)),)
CUDA := $(DEVICE:cuda=1)
endif
ifneq ($(filter-out 0 1 emulate,$(CUDA)),)
$(error CUDA=$(CUDA): expected 1 (for a GPU, with nvcc), emulate (the same kernels on the CPU) or 0)
endif
ifneq ($(filter-out 0 1,$(MPI)),)
$(error MPI=$(MPI): expected 1 (train_steer in several processes), 0 (in one), or nothing (1 where mpicc is found and works))
endif
ifneq ($(filter-out 0 1,$(NCCL)),)
$(error NCCL=$(NCCL): expected 1 (gradients go from GPU to GPU), 0 (by way of the hosts), or nothing (1 where NCCL and MPI are found and work))
endif

comma := ,
# Without a redirection make up to 4.2 looks for a program `command` instead of asking the shell.
find = $(firstword $(shell command -v $1 2>/dev/null) $(wildcard $2))

# ----------------------------------------------------------------------------
# The instruction sets that the kernels of the CPU are compiled for, beside `portable`, by the machine that the compiler makes programs
# for. A level whose flags and instructions the compiler or its assembler does not know is left out, and make says so.

MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))
ALL_LEVELS := $(if $(filter x86_64 amd64,$(MACHINE)),avx2 avx512 avx512_bf16 amx,$(if $(filter aarch64 arm64,$(MACHINE)),neon neon_bf16))
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := $(FLAGS_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16
FLAGS_amx := $(FLAGS_avx512_bf16) -mamx-tile -mamx-bf16
FLAGS_neon_bf16 := -march=armv8.2-a+bf16
ONE_OF_avx2 := vpermd %ymm0, %ymm1, %ymm2
ONE_OF_avx512 := vpermd %zmm0, %zmm1, %zmm2
ONE_OF_avx512_bf16 := vdpbf16ps %zmm0, %zmm1, %zmm2
ONE_OF_amx := tdpbf16ps %tmm0, %tmm1, %tmm2
ONE_OF_neon := fmla v0.4s, v1.4s, v2.4s
ONE_OF_neon_bf16 := bfmmla v0.4s, v1.8h, v2.8h
ifneq ($(filter-out help clean,$(GOALS)),)
LEVELS := portable $(shell mkdir -p $(BUILD))$(foreach l,$(ALL_LEVELS),$(shell echo 'void f(void) { __asm__("$(ONE_OF_$l)"); }' | $(CC) $(FLAGS_$l) -c -x c - -o $(BUILD)/probe.o 2>/dev/null && echo $l))
endif

# ----------------------------------------------------------------------------
# CUDA: which compiler makes the backend, and what it is linked with. GPU_ARCH: compute capabilities without the point.

NVCC := $(call find,$(if $(CUDA_HOME),$(CUDA_HOME)/bin/nvcc,nvcc),/usr/local/cuda/bin/nvcc)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
GPU := $(wildcard /proc/driver/nvidia/version /dev/nvidia0)
CUDA ?= $(if $(and $(NVCC),$(GPU)),1,0)
GPU_ARCH ?= 80 90 100
ifeq ($(CUDA),1)
BACKEND := $(BUILD)/backend.o
BACKEND_LIBS := -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lstdc++ -ldl -lrt -lpthread
ifeq ($(NVCC),)
$(error CUDA=1: nvcc was not found: install the CUDA Toolkit, or set CUDA_HOME to where it is)
endif
else ifeq ($(CUDA),emulate)
BACKEND := $(BUILD)/backend_fast.o $(BUILD)/cuda_on_cpu.o
BACKEND_LIBS := -lstdc++ -ldl -lpthread
ifeq ($(wildcard $(CUDA_HOME)/include/cublasLt.h),)
$(error CUDA=emulate: the headers of the CUDA Toolkit were not found (cublasLt.h): install it, or set CUDA_HOME to where it is)
endif
endif

# ----------------------------------------------------------------------------
# What this machine has: the compiler, OpenMP and each library are tried, not guessed, by scripts/setup.sh, which answers with
# a line NAME=WORD for each flag that worked.

# Without OpenMP its `simd` pragmas still hold: they order sums, and results must not depend on the number of threads.
ONE_THREAD := -fopenmp-simd -Wno-unknown-pragmas
ifneq ($(filter-out help clean,$(GOALS)),)
try = $(shell CC='$1' CPPFLAGS='$(CPPFLAGS)' LDFLAGS='$(LDFLAGS)' scripts/setup.sh --flags)
named = $(patsubst $1=%,%,$(filter $1=%,$2))
FOUND := $(call try,$(CC))
MISSING := $(strip $(call named,MISSING,$(FOUND)))
BASE_FLAGS += $(call named,CPPFLAGS,$(FOUND))
LIBS := $(call named,LDFLAGS,$(FOUND)) $(call named,LIBS,$(FOUND))
openmp = $(or $(call named,THREADS,$(call try,$1)),$(ONE_THREAD))
THREADS := $(if $(filter 0,$(OPENMP)),$(ONE_THREAD),$(or $(call named,THREADS,$(FOUND)),$(ONE_THREAD)))
STEER_FLAGS := $(BASE_FLAGS) $(THREADS) $(foreach l,$(LEVELS),-DLLMC_LEVEL_$l=cpu_level_$l) $(if $(BACKEND),-DLLMC_CUDA)

# MPI, for train_steer alone: what the compiler must be told, from Open MPI's mpicc or MPICH's, then a try.
MPICC := $(if $(filter 0,$(MPI)),,$(call find,mpicc))
MPI_FLAGS := $(if $(MPICC),$(patsubst -I%,-isystem %,$(shell $(MPICC) --showme:compile 2>/dev/null || $(MPICC) -compile-info 2>/dev/null | cut -d ' ' -f 2-)))
MPI_LIBS := $(if $(MPICC),$(shell $(MPICC) --showme:link 2>/dev/null || $(MPICC) -link-info 2>/dev/null | cut -d ' ' -f 2-))
MPI_WORKS := $(if $(MPICC),$(shell echo 'int main(void) { return MPI_Init(NULL, NULL); }' | \
    $(CC) $(MPI_FLAGS) -include mpi.h -x c - -o /dev/null $(LDFLAGS) $(MPI_LIBS) >/dev/null 2>&1 && echo yes))
ifeq ($(MPI)$(MPI_WORKS),1)
$(error MPI=1: $(if $(MPICC),a program with what $(MPICC) names does not compile with $(CC),mpicc was not found): `scripts/setup.sh --mpi` installs Open MPI)
endif
ifneq ($(MPI_WORKS),)
RANKS_PROGRAMS := $(BIN)train_steer $(BUILD)/test_ranks
RANKS_FLAGS := -DLLMC_MPI $(MPI_FLAGS)
RANKS_LIBS := $(MPI_LIBS)
endif

# NCCL, for train_steer on the GPUs of several ranks: from NCCL_HOME, the toolkit, what `scripts/setup.sh --nccl` has put into .venv, or
# the system. CUDA=emulate has its own (dev/cuda_on_cpu/nccl.h).
ifneq ($(and $(BACKEND),$(MPI_WORKS),$(if $(filter 0,$(NCCL)),,wanted)),)
ifeq ($(CUDA),emulate)
NCCL_WORKS := emulated
else
NCCL_HEADER := $(firstword $(wildcard $(if $(NCCL_HOME),$(NCCL_HOME)/include/nccl.h,$(CUDA_HOME)/include/nccl.h .venv/lib/python*/site-packages/nvidia/nccl/include/nccl.h /usr/include/nccl.h)))
NCCL_FOUND := $(patsubst %/include/nccl.h,%,$(NCCL_HEADER))
NCCL_FOLDERS := $(abspath $(wildcard $(NCCL_FOUND)/lib64 $(NCCL_FOUND)/lib))
NCCL_LIBS := $(foreach l,$(NCCL_FOLDERS),-L$l -Wl,-rpath,$l) -l:libnccl.so.2
NCCL_WORKS := $(if $(NCCL_HEADER),$(shell echo 'int main(void) { int v; return ncclGetVersion(&v) || NCCL_VERSION_CODE < 21800; }' | \
    $(CC) -isystem $(CUDA_HOME)/include -isystem $(NCCL_FOUND)/include -include nccl.h -x c - -o /dev/null $(LDFLAGS) $(NCCL_LIBS) >/dev/null 2>&1 && echo yes))
endif
endif
ifeq ($(NCCL)$(NCCL_WORKS),1)
$(error NCCL=1: $(if $(NCCL_HEADER),a program with $(NCCL_HEADER) does not link,$(if $(MPI_WORKS),$(if $(BACKEND),nccl.h was not found: `scripts/setup.sh --nccl` installs it,it goes with CUDA=1),it goes with MPI: `scripts/setup.sh --mpi`)))
endif
ifneq ($(NCCL_WORKS),)
NCCL_OBJECT := $(if $(filter emulate,$(CUDA)),$(BUILD)/nccl_fast.o,$(BUILD)/nccl.o)
$(RANKS_PROGRAMS): $(NCCL_OBJECT)
RANKS_FLAGS += -DLLMC_NCCL
RANKS_LIBS += $(NCCL_LIBS)
RANKS_OBJECTS := $(NCCL_OBJECT)
endif
endif

ifneq ($(filter all test demo,$(GOALS)),)
ifeq ($(SETUP_RAN),)
$(info $(if $(filter compiler,$(MISSING)),✗ compiler $(CC) not found,✓ compiler $(shell $(CC) --version | head -n 1)))
$(info $(if $(filter -fopenmp,$(THREADS)),✓ OpenMP   all cores are used,✗ OpenMP   $(if $(filter 0,$(OPENMP)),switched off by OPENMP=0,$(CC) cannot link it (clang needs libomp: Debian libomp-dev$(comma) Homebrew libomp)): the programs use one thread))
$(info ✓ levels   $(LEVELS)$(foreach l,$(filter-out $(LEVELS),$(ALL_LEVELS)),; left out, for this compiler or its assembler does not know it: $l))
$(foreach l,$(LIBRARIES),$(info $(if $(filter $l,$(MISSING)),✗ $l not found: scripts/setup.sh installs it,✓ $l)))
$(info $(if $(filter 1,$(CUDA)),✓ CUDA     $(NVCC)$(comma) for compute capability $(GPU_ARCH),$(if $(filter emulate,$(CUDA)),✓ CUDA     the kernels run on the CPU (dev/cuda_on_cpu),→ CUDA     $(if $(NVCC),nvcc found$(comma) $(if $(GPU),switched off,no GPU here: `make CUDA=1` builds for one$(comma) `make CUDA=emulate` runs the kernels on the CPU),nvcc not found: building for the CPU))))
$(info $(if $(MPI_WORKS),✓ MPI      $(MPICC): mpirun starts train_steer on several machines,→ MPI      $(if $(filter 0,$(MPI)),switched off by MPI=0,$(if $(MPICC),$(MPICC) found$(comma) but $(CC) cannot use it,mpicc not found (`scripts/setup.sh --mpi` installs it))): train_steer runs in one process))
$(if $(BACKEND),$(info $(if $(NCCL_WORKS),✓ NCCL     $(or $(NCCL_HEADER),its stand-in (dev/cuda_on_cpu)): gradients go from GPU to GPU,→ NCCL     $(if $(filter 0,$(NCCL)),switched off by NCCL=0,$(if $(MPI_WORKS),$(if $(NCCL_HEADER),$(NCCL_HEADER) found$(comma) but a program with it does not link,not found (`scripts/setup.sh --nccl` installs it)),of no use without MPI)): gradients go by way of the hosts)))
$(info $(if $(call find,python3),✓ python3  for pictures only,✗ python3  not found: `make demo` will draw no pictures))
endif
endif

# ----------------------------------------------------------------------------
# Programs

# A command that fails leaves no half-made file that looks up to date.
.DELETE_ON_ERROR:
.PHONY: all test demo check check-ports bench help clean FORCE

all: $(PROGRAMS) ## build the three programs and say what was found (the default)
	@echo 'built: $(PROGRAMS). Next: make test, make demo, make help'

DIALECT := -std=gnu11 -x c
COMPILE = $(CC) $(CPPFLAGS) $(CFLAGS) $(DIALECT) $(STEER_FLAGS)
LINK = -o $@ $(LDFLAGS) $(LIBS) $(call ranks,LIBS) $(BACKEND_LIBS)
# What only the programs of several ranks take. Not `private` variables of theirs: macOS has make 3.81, which knows none.
ranks = $(if $(filter $@,$(RANKS_PROGRAMS)),$(RANKS_$1))
DEPENDENCIES = -MMD -MP -MF $(@:.o=.d)

# The CPU's kernels: an object a level, each with one function that the others call (llmc/cpu/cpu.h).
CPU := $(BUILD)/cpu_backend.o $(LEVELS:%=$(BUILD)/cpu_%.o)
$(BUILD)/cpu_backend.o: llmc/cpu/backend.c $(BUILD)/flags
	$(COMPILE) $(DEPENDENCIES) -c $< -o $@
$(LEVELS:%=$(BUILD)/cpu_%.o): $(BUILD)/cpu_%.o: llmc/cpu/level.c $(BUILD)/flags
	$(COMPILE) $(KERNEL_FLAGS) $(FLAGS_$*) -DSIMD=$* $(DEPENDENCIES) -c $< -o $@

$(BIN)train_steer $(BIN)eval_steer: $(BIN)%: %.cu $(CPU) $(BACKEND) $(BUILD)/flags
	$(COMPILE) $(call ranks,FLAGS) -MMD -MP -MF $(BUILD)/$*.d -MT $@ $< -x none $(CPU) $(call ranks,OBJECTS) $(BACKEND) $(LINK)

# The tests, and what they call of the levels beside the table: the vector layer, and AMX's tiles without AMX.
TEST_OBJECTS := $(BUILD)/test_steer.o $(BUILD)/test_amx_emulated.o $(patsubst %,$(BUILD)/test_simd_%.o,$(filter-out %_bf16 amx,$(LEVELS)))
$(BUILD)/test_steer.o: test_steer.c $(BUILD)/flags
	$(COMPILE) $(DEPENDENCIES) -c $< -o $@
$(BUILD)/test_amx_emulated.o: dev/test/amx_emulated.c $(BUILD)/flags
	$(COMPILE) $(DEPENDENCIES) -c $< -o $@
$(LEVELS:%=$(BUILD)/test_simd_%.o): $(BUILD)/test_simd_%.o: dev/test/simd_level.c $(BUILD)/flags
	$(COMPILE) $(FLAGS_$*) -DSIMD=$* $(DEPENDENCIES) -c $< -o $@
$(BIN)test_steer: $(TEST_OBJECTS) $(CPU) $(BACKEND)
	$(CC) $(CFLAGS) $(THREADS) $^ $(LINK)

# The tests with no level but portable: what a CPU that nobody knew of runs.
$(BUILD)/cpu_backend_portable.o: llmc/cpu/backend.c $(BUILD)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) $(DIALECT) $(BASE_FLAGS) $(THREADS) $(DEPENDENCIES) -c $< -o $@
$(BUILD)/test_portable: $(TEST_OBJECTS) $(BUILD)/cpu_backend_portable.o $(BUILD)/cpu_portable.o $(BACKEND)
	$(CC) $(CFLAGS) $(THREADS) $^ $(LINK)

# The CUDA backend. `checked` is compiled so that each access of a kernel to memory calls dev/cuda_on_cpu first.
NVCC_FLAGS = -std=c++17 -O3 -I. -Werror all-warnings --fmad=true $(foreach a,$(GPU_ARCH),-gencode arch=compute_$a,code=sm_$a) \
    -gencode arch=compute_$(lastword $(GPU_ARCH)),code=compute_$(lastword $(GPU_ARCH))
EMULATE = $(CXX) -std=c++17 -DCUDA_ON_CPU -ffp-contract=off -fno-strict-aliasing -fstack-clash-protection -Wall -Wextra -Werror -Wno-unknown-pragmas -g -Idev/cuda_on_cpu/shadow -I. -isystem $(CUDA_HOME)/include
$(BUILD)/backend.o: llmc/cuda/backend.cu $(BUILD)/flags
	$(NVCC) $(NVCC_FLAGS) $(DEPENDENCIES) -c $< -o $@
$(BUILD)/nccl.o: llmc/cuda/nccl.cu $(BUILD)/flags
	$(NVCC) $(NVCC_FLAGS) $(addprefix -isystem ,$(NCCL_FOUND)/include) $(DEPENDENCIES) -c $< -o $@
$(BUILD)/nccl_fast.o: llmc/cuda/nccl.cu $(BUILD)/flags
	$(EMULATE) -O2 $(DEPENDENCIES) -x c++ -c $< -o $@
$(BUILD)/backend_fast.o: llmc/cuda/backend.cu $(BUILD)/flags
	$(EMULATE) -O2 $(DEPENDENCIES) -x c++ -c $< -o $@
$(BUILD)/backend_checked.o: llmc/cuda/backend.cu $(BUILD)/flags
	$(EMULATE) -O1 -finline-functions -fsanitize=thread,alignment $(DEPENDENCIES) -x c++ -c $< -o $@
$(BUILD)/cuda_on_cpu.o: dev/cuda_on_cpu/cuda_on_cpu.cpp $(BUILD)/flags
	$(EMULATE) -O2 $(DEPENDENCIES) -c $< -o $@
$(BUILD)/test_checked: $(TEST_OBJECTS) $(CPU) $(BUILD)/backend_checked.o $(BUILD)/cuda_on_cpu.o
	$(CC) $(CFLAGS) $(THREADS) $^ $(LINK)

# Several ranks, without a model: mpirun starts it (dev/test/test_shard.h, test_gpus.h).
$(BUILD)/test_ranks: dev/test/ranks.c $(CPU) $(BACKEND) $(BUILD)/flags
	$(COMPILE) $(call ranks,FLAGS) -MMD -MP -MF $@.d -MT $@ $< -x none $(CPU) $(call ranks,OBJECTS) $(BACKEND) $(LINK)

# A function that no level owns, with the flags of each: what dev/test/strays.sh must see.
STRAYS := $(patsubst %,$(BUILD)/stray_%.o,$(filter-out portable neon,$(LEVELS)))
$(STRAYS): $(BUILD)/stray_%.o: dev/test/stray.c $(BUILD)/flags
	$(COMPILE) $(FLAGS_$*) $(DEPENDENCIES) -c $< -o $@

# The kernel labs of dev/cpu, for this machine's own CPU, and the benches of dev/bench.
NATIVE ?= -march=native
$(BUILD)/lab_%: dev/cpu/%.c $(CPU) $(BUILD)/flags
	$(COMPILE) $(KERNEL_FLAGS) $(NATIVE) $< -x none $(CPU) $(LINK)
$(BUILD)/bench_%: dev/bench/%.c $(CPU) $(BUILD)/flags
	$(COMPILE) $< -x none $(CPU) $(LINK)
-include $(wildcard $(BUILD)/*.d)

# Changes only when the compiler or a flag does; then everything is rebuilt. The build stops here if a library is missing.
$(BUILD)/flags: export FLAGS = $(shell $(CC) --version | head -n 1) $(CC) $(CPPFLAGS) $(CFLAGS) $(STEER_FLAGS) $(LDFLAGS) $(LIBS) $(BACKEND) $(if $(BACKEND),$(GPU_ARCH) $(CUDA_HOME)) $(MPI_WORKS) $(MPI_FLAGS) $(MPI_LIBS) $(NCCL_WORKS) $(NCCL_LIBS)
$(BUILD)/flags: FORCE
	@test -z '$(MISSING)' || { echo 'error: not found: $(MISSING)'; \
	    echo '  -> run scripts/setup.sh, or set CPPFLAGS=-I... and LDFLAGS=-L... to where they are'; exit 1; } >&2
	@mkdir -p $(BUILD); echo "$$FLAGS" | cmp -s - $@ || echo "$$FLAGS" > $@

# ----------------------------------------------------------------------------
# Running

# test and demo install what is missing, then start over, so that the new libraries are found.
ifneq ($(and $(MISSING),$(if $(SETUP_RAN),,not yet)),)
test demo:
	@CC='$(CC)' CPPFLAGS='$(CPPFLAGS)' LDFLAGS='$(LDFLAGS)' scripts/setup.sh
	@$(MAKE) --no-print-directory SETUP_RAN=1 $@
else
ifeq ($(CUDA),emulate)
test: $(PROGRAMS) build/test_checked $(STRAYS) $(if $(NCCL_WORKS),build/test_ranks)
	@rm -f build/test_portable # not made anew here, and an old one proves nothing
	@CXX='$(CXX)' CUDA_HOME='$(CUDA_HOME)' dev/test/emulated.sh
else
test: $(PROGRAMS) build/test_portable $(STRAYS) $(if $(MPI_WORKS),build/test_ranks) ## prove everything: no network, no GPU, no Python; ends in `N passed, N failed`
	@OMP_WAIT_POLICY=passive ./test_steer -j $(if $(filter 1,$(CUDA)),1,$(CORES)) # suites that share a GPU would see each other's memory
endif

demo: train_steer eval_steer ## evaluate the tiny model, train its vectors, evaluate again, draw both
	@DEVICE='$(DEVICE)' scripts/demo.sh
endif

# Slower, for those who change the code. A tool that is not here is named and skipped.
have = command -v $1 >/dev/null || { echo 'skipped: $1 not found'; exit 0; }
COMPILERS ?= gcc-11 gcc-12 gcc-13 gcc-14 clang clang-14 clang-16 clang-19
check: $(PROGRAMS) ## tests under ASan and UBSan; other compilers, C++17; cppcheck, shellcheck; a minute of fuzzing; two hosts
	$(MAKE) BUILD=build/sanitized CFLAGS='$(CFLAGS) -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all' build/sanitized/test_steer
	OMP_WAIT_POLICY=passive build/sanitized/test_steer -j $(CORES)
	@for cc in $(COMPILERS); do if command -v $$cc >/dev/null; then ( set -ex; $(MAKE) BUILD=build/$$cc CC=$$cc all; build/$$cc/test_steer matmul ops ) || exit; \
	    else echo "skipped: $$cc not found"; fi; done
	@$(call have,$(CXX)); set -ex; $(MAKE) BUILD=build/cxx CC='$(CXX)' DIALECT='-std=c++17 -Wno-missing-field-initializers -x c++' all
	@$(call have,cppcheck); set -ex; \
	    cppcheck --quiet --error-exitcode=1 --std=c11 --language=c --enable=warning,portability --suppressions-list=dev/cppcheck.txt \
	    --include=dev/cppcheck.h -I. $(SOURCES) llmc/cpu/backend.c; \
	    for l in $(LEVELS); do cppcheck --quiet --error-exitcode=1 --std=c11 --language=c --enable=warning,portability \
	    --suppressions-list=dev/cppcheck.txt -I. -DSIMD=$$l llmc/cpu/level.c; done
	@$(call have,shellcheck); set -ex; shellcheck .ci/run scripts/*.sh scripts/multi_node/*.sh dev/bench/*.sh dev/test/*.sh dev/results/*.sh
	@$(call have,clang); dev/test/fuzz.sh 60
	dev/test/setup.sh
	dev/test/readme.sh
	dev/test/macos_objects.sh
	dev/test/two_hosts.sh

check-ports: $(PROGRAMS) ## run on CPUs that are not here (older x86, ARM) by emulation, compile for macOS; needs scripts/setup.sh --ports
	dev/test/ports.sh

bench: eval_steer ## measure speed and how it changes with batch, lengths and threads; MODEL=DIR, PEERS=DIR compares with other programs
	@scripts/bench.sh $(or $(MODEL),data/tiny/model) $(PEERS)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1	\2/p' Makefile | expand -t 18

clean: ## remove what make built; trained vectors, results and .venv stay
	rm -rf build $(PROGRAMS)
