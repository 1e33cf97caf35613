/*
 * block.c -- what the block layer costs: a token raised and dropped, on one loop and on eight at
 * once; a null-co request through root and node, and one node more in the chain; a drained section;
 * finding a node by name among few and many.
 *
 *     bench-block CASE SECONDS      prints {"ns": CPU nanoseconds of one operation}
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "block/drain.h"
#include "block/drivers.h"
#include "loop/io.h"
#include "loop/iothread.h"
#include "os/time.h"
#include "sync/asym.h"
#include "sync/atomic.h"

enum { BATCH = 4096, THREADS_MAX = 8 };

static struct blk_root *root;
static uint64_t duration_ns;
static unsigned running;   /* atomic */
static uint64_t operations, cpu_ns; /* atomic: summed over the threads */

/* ---- the graph ------------------------------------------------------------------------------- */

MAIN_LOOP
static const char *user_name(void *opaque)
{
    return "bench";
}

MAIN_LOOP CO_FN
static void add(const char *text)
{
    struct err *error = NULL;
    json_t *options;
    unsigned flags;
    bool help;

    if (opt_parse_string(text, "driver", &options, &flags, &help, &error) < 0 ||
        blk_node_co_add(options, flags, &error) < 0) {
        panic("%s: %s", text, error->text);
    }
    json_decref(options);
}

MAIN_LOOP CO_FN
static void open_root(const char *node)
{
    static const struct blk_root_ops ops = {.describe = user_name};
    struct err *error = NULL;

    if (blk_root_co_new(blk_node_find(node), BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                        BLK_PERM_ALL, &ops, NULL, &root, &error) < 0) {
        panic("%s", error->text);
    }
}

/* ---- one operation, over and over ------------------------------------------------------------ */

CO_FN
static void token_batch(void)
{
    for (unsigned i = 0; i < BATCH; i++) {
        if (!blk_root_raise(root)) {
            panic("nobody closes the gate");
        }
        blk_root_drop(root);
    }
}

CO_FN
static void request_batch(void)
{
    static _Thread_local char block[4096];
    struct iovec iov = {block, sizeof(block)};

    for (unsigned i = 0; i < BATCH; i++) {
        if (!blk_root_raise(root)) {
            panic("nobody closes the gate");
        }
        if (blk_root_co_preadv(root, (uint64_t)i * sizeof(block), sizeof(block), &iov, 1, 0) < 0) {
            panic("null-co does not fail");
        }
        blk_root_drop(root);
    }
}

CO_FN
static void section_batch(void)
{
    struct blk_section *section;

    loop_assert_main();
    for (unsigned i = 0; i < BATCH / 16; i++) {
        if (blk_section_co_begin(blk_root_node(root), "bench", 0, &section, NULL) < 0) {
            panic("nothing to wait for");
        }
        blk_section_end(section);
    }
}

CO_FN
static void find_batch(void)
{
    loop_assert_main();
    for (unsigned i = 0; i < BATCH; i++) {
        if (blk_node_find("n7") == NULL) {
            panic("it is there");
        }
    }
}

struct bench {
    const char *name;
    void (*batch)(void);
    unsigned per_batch;
    unsigned threads; /* 0: on the main loop */
    unsigned raws;    /* between the root and null-co */
    unsigned others;  /* nodes beside */
};

static const struct bench benches[] = {
    {"token", token_batch, BATCH, 1, 0, 0},       {"token.8", token_batch, BATCH, 8, 0, 0},
    {"null", request_batch, BATCH, 1, 0, 0},      {"null.raw", request_batch, BATCH, 1, 1, 0},
    {"section", section_batch, BATCH / 16, 0, 0, 0},
    {"section.1000", section_batch, BATCH / 16, 0, 0, 1000},
    {"find.10", find_batch, BATCH, 0, 0, 10},     {"find.10000", find_batch, BATCH, 0, 0, 10000},
};
static const struct bench *bench;

CO_FN
static void repeat(void *opaque)
{
    uint64_t end = os_now_monotonic_ns() + duration_ns;
    uint64_t begun;
    uint64_t count = 0;

    bench->batch(); /* warm */
    begun = os_thread_cpu_ns();
    while (os_now_monotonic_ns() < end) {
        bench->batch();
        count += bench->per_batch;
    }
    at_add(&cpu_ns, os_thread_cpu_ns() - begun);
    at_add(&operations, count);
    at_sub(&running, 1);
}

MAIN_LOOP CO_FN
static void start_threads(struct iothread **threads)
{
    static const struct iothread_options options = {.thread_pool_max = 1};

    for (unsigned i = 0; i < bench->threads; i++) {
        char *id = str_format("io%u", i);

        if (iothread_co_new(id, &options, NULL) < 0) {
            panic("no I/O thread");
        }
        threads[i] = iothread_find(id);
        at_add(&running, 1);
        mem_free(id);
    }
    for (unsigned i = 0; i < bench->threads; i++) {
        loop_co_spawn(iothread_loop(threads[i]), repeat, NULL, "bench");
    }
}

MAIN_LOOP CO_FN
static void measure(void)
{
    struct iothread *threads[THREADS_MAX];

    if (bench->threads == 0) {
        at_store(&running, 1);
        repeat(NULL);
        return;
    }
    start_threads(threads);
    while (at_load(&running) > 0) {
        loop_co_sleep(10000000);
    }
    for (unsigned i = 0; i < bench->threads; i++) {
        iothread_co_delete(threads[i], NULL);
    }
}

CO_FN
static void run(void *opaque)
{
    char *below = mem_strdup("n0");

    loop_assert_main();
    add("null-co,node-name=n0");
    for (unsigned i = 1; i <= bench->raws || i <= bench->others; i++) {
        char *name = str_format("n%u", i);
        char *options = i <= bench->raws
                            ? str_format("raw,node-name=%s,file=%s,offset=4096", name, below)
                            : str_format("null-co,node-name=%s", name);

        add(options);
        mem_free(options);
        mem_free(below);
        below = name;
    }
    open_root(bench->others > 0 ? "n0" : below);
    mem_free(below);
    measure();
    blk_root_co_free(root);
    loop_stop(loop_self());
}

int main(int argc, char **argv)
{
    static const struct blk_driver *const drivers[] = {&blk_driver_null_co, &blk_driver_raw};
    struct loop_config config = {.name = "main"};
    struct loop *loop;

    for (size_t i = 0; argc == 3 && i < countof(benches); i++) {
        bench = strcmp(benches[i].name, argv[1]) == 0 ? &benches[i] : bench;
    }
    if (bench == NULL) {
        fprintf(stderr, "usage: bench-block CASE SECONDS\n");
        return 2;
    }
    duration_ns = (uint64_t)(strtod(argv[2], NULL) * 1e9);
    asym_init();
    loop = loop_new(&config, NULL);
    if (loop == NULL) {
        return 1;
    }
    loop_assert_main();
    blk_drivers_set(drivers, countof(drivers));
    loop_co_spawn(loop, run, NULL, "bench");
    loop_run(loop);
    printf("{\"ns\": %.3f}\n", (double)cpu_ns / (double)operations);
    return 0;
}
