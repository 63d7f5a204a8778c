/*
Several processes with a GPU each, which exchange the gradient by NCCL: as `make CUDA=emulate test` runs it, with the
emulator's GPUs and its stand-in for NCCL; on a machine with fewer than two real GPUs it is skipped. 1, 2 and 4 ranks
against one alone, to the bit; which rank gets which GPU; ranks that die in the exchange, or whose network fails there.
*/
#ifndef DEV_TEST_TEST_GPUS_H
#define DEV_TEST_TEST_GPUS_H

#include "dev/test/test_dist.h"  // dist_can_run, run_command, check_same_checkpoint
#include "dev/test/test_shard.h" // shard_same

#define GPU_RANKS "export OMP_NUM_THREADS=1 CUDA_ON_CPU_DEVICES=4; "
#define GPU_TRAIN \
    "./train_steer --config " TINY_RECIPE \
    " --device cuda --prompts_per_step 5 --num_generations 3 --max_completion_length 8 --reward random" \
    " --max_steps 4 --save_steps 1 --warmup_ratio 0 --output_dir "
#define GPU_RUN "tiny/arithmetic/steering/seed-0"

// Folder `name` holds the same run as folder gpu_alone.
void gpus_same(const char *name, const char *what) {
    char run[2][300];
    snprintf(run[0], sizeof run[0], "%s/" GPU_RUN, test_path("gpu_alone"));
    snprintf(run[1], sizeof run[1], "%s/" GPU_RUN, test_path(name));
    check_same_checkpoint(run[0], run[1], 4, what);
    check_same_metrics(run[0], run[1]);
}

// Which GPU a rank gets: its number on the machine, counted round, among those that CUDA_VISIBLE_DEVICES shows to it.
void test_gpus_places(void) {
    expect_command(1, "it has the same GPU as rank 0",
                   "export CUDA_ON_CPU_DEVICES=1; mpirun -np 2 build/test_ranks < /dev/null");
    expect_command(1, "it has the same GPU as rank 0",
                   "export CUDA_ON_CPU_DEVICES=4 CUDA_VISIBLE_DEVICES=2; mpirun -np 2 build/test_ranks < /dev/null");
    expect_command(0, "number 0 of 1",
                   "export CUDA_ON_CPU_DEVICES=4; mpirun -np 2 sh -c 'CUDA_VISIBLE_DEVICES=$((3 - "
                   "OMPI_COMM_WORLD_LOCAL_RANK)) build/test_ranks' < /dev/null");
    expect_command(1, "no GPU can be used",
                   "export CUDA_ON_CPU_DEVICES=4 CUDA_VISIBLE_DEVICES=; mpirun -np 2 build/test_ranks < /dev/null");
    expect_command(1, "--device cpu",
                   GPU_RANKS "mpirun -np 1 " GPU_TRAIN "%s : -np 1 " GPU_TRAIN "%s --device cpu < /dev/null",
                   test_path("gpu_mixed"), test_path("gpu_mixed"));
}

void test_gpus_failures(void) {
    // five groups are at most four subtrees: the sixth broadcast is in a later step than the first, which is saved
    static const struct {
        const char *plan, *word;
    } plans[] = {{"kill:1:6", "rank 1"}, {"fail:0:6", "error: rank 0 of 2"}};
    Str out = {0};
    for (int i = 0; i < 2; i++) {
        const double t0 = now_s();
        int code =
            run_command(&out, GPU_RANKS "rm -rf %s; CUDA_ON_CPU_NCCL=%s mpirun -np 2 " GPU_TRAIN "%s < /dev/null",
                        test_path("gpu_broken"), plans[i].plan, test_path("gpu_broken"));
        CHECK(code != 0 && strstr(out.s, plans[i].word) && strstr(out.s, "saved"), "%s: ended with %d:\n%s",
              plans[i].plan, code, out.s);
        CHECK(now_s() - t0 < 60, "%s: the run ended after %.1f s", plans[i].plan, now_s() - t0);
        CHECK(!path_exists(test_path("gpu_broken/" GPU_RUN "/checkpoint-4")), "%s: too late", plans[i].plan);
        expect_command(0, "resumed from", GPU_RANKS "mpirun -np 2 " GPU_TRAIN "%s --resume auto < /dev/null",
                       test_path("gpu_broken"));
        gpus_same("gpu_broken", plans[i].plan);
    }
    str_free(&out);
}

// All weights, whose gradient goes in pieces (what that adds up to is build/test_ranks's to show): twice the same bits
// on 2 GPUs, also where a rank dies in the second step, in the second of the two pieces of the gradient. Before it are
// 2 broadcasts of x at the start, and 2 pieces and 2 broadcasts a step.
void test_gpus_shards(void) {
    const char *names[3] = {"gpu_full_a", "gpu_full_b", "gpu_full_broken"};
    const char *full = " --setup full --learning_rate 0.0001 < /dev/null";
    Str out = {0};
    for (int i = 0; i < 2; i++)
        expect_command(0, "from GPU to GPU, by NCCL", GPU_RANKS "mpirun -np 2 " GPU_TRAIN "%s %s", test_path(names[i]),
                       full);
    const double t0 = now_s();
    const int code = run_command(&out, GPU_RANKS "CUDA_ON_CPU_NCCL=kill:1:8 mpirun -np 2 " GPU_TRAIN "%s %s",
                                 test_path(names[2]), full);
    CHECK(code != 0 && strstr(out.s, "rank 1") && now_s() - t0 < 60,
          "killed in the reduce-scatter: ended with %d after %.1f s:\n%s", code, now_s() - t0, out.s);
    char *run = shard_file(names[2], "full", 1, "model.safetensors"),
         *next = shard_file(names[2], "full", 2, "model.safetensors");
    CHECK(path_exists(run) && !path_exists(next), "killed in another step");
    expect_command(0, "resumed from", GPU_RANKS "mpirun -np 2 " GPU_TRAIN "%s --resume auto %s", test_path(names[2]),
                   full);
    for (int i = 1; i < 3; i++)
        shard_same(names[0], names[i], "full", i == 1 ? "2 GPUs twice" : "2 GPUs, one was lost");
    free(run);
    free(next);
    str_free(&out);
}

void test_gpus(void) {
    const Ops *ops = test_cuda_ops();
    if (!ops || !dist_can_run()) return;
    if (!path_exists("build/test_ranks")) {
        SKIP("ranks with GPUs: built without NCCL");
        return;
    }
    const bool emulated = strstr(ops->isa, "emulated") != NULL;
    Str out = {0};
    const int code = run_command(&out, GPU_RANKS "mpirun -np 2 build/test_ranks < /dev/null");
    if (!emulated && code && strstr(out.s, "it has the same GPU")) {
        SKIP("ranks with GPUs: this machine has one");
        str_free(&out);
        return;
    }
    CHECK(code == 0 && strstr(out.s, "from GPU to GPU, by NCCL") && strstr(out.s, " passed, 0 failed"),
          "2 ranks ended with %d:\n%s", code, out.s);
    str_free(&out);
    if (!emulated) return; // cuBLASLt chooses its kernel by shape: a real training run may have other bits
    for (int n = 1; n <= 4; n += n == 1 ? 2 : 1)
        expect_command(0, " passed, 0 failed", GPU_RANKS "mpirun -np %d build/test_ranks < /dev/null", n);
    test_gpus_places();
    expect_command(0, "saved", GPU_RANKS GPU_TRAIN "%s < /dev/null", test_path("gpu_alone"));
    for (int n = 2; n <= 4; n += 2) {
        char name[32];
        snprintf(name, sizeof name, "gpu_ranks%d", n);
        expect_command(0, "from GPU to GPU, by NCCL", GPU_RANKS "mpirun -np %d " GPU_TRAIN "%s < /dev/null", n,
                       test_path(name));
        gpus_same(name, "several GPUs against one");
    }
    test_gpus_failures();
    test_gpus_shards();
}

#endif
