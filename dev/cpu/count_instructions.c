/*
A plugin for QEMU's user-mode emulators: prints how many instructions the program executed, all threads together. For
counts that do not depend on the machine they were made on.

    gcc -shared -fPIC -O2 dev/cpu/count_instructions.c -o build/count_instructions.so
    qemu-aarch64 -plugin build/count_instructions.so -d plugin PROGRAM      "instructions: N" on standard error

The interface is declared here, since Debian packages no qemu-plugin.h for QEMU 7.2: version 1 of it,
docs/devel/tcg-plugins of QEMU.
*/
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;

// What QEMU offers. Versions from 9 on name some of it otherwise; a program of theirs that lacks a name refuses the
// plugin.
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op, void *to,
                                              uint64_t value);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*ended)(qemu_plugin_id_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_outs(const char *text);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed; // threads add without a lock: exact for one thread

static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void print_count(qemu_plugin_id_t id, void *data) {
    char text[64];
    (void)id;
    (void)data;
    snprintf(text, sizeof text, "instructions: %llu\n", (unsigned long long)executed);
    qemu_plugin_outs(text);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_atexit_cb(id, print_count, NULL);
    return 0;
}
