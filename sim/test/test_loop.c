/*
 * test_loop.c -- the real loops, coroutines and I/O threads on the simulated platform: two I/O
 * threads write and read back an in-memory file from many coroutines each.
 *
 * With --seed N: one run; the last line is the trace hash. Without: a seed twice gives one hash,
 * many seeds give many, and every run finds its data right.
 */
#include "base/mem.h"
#include "loop/io.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/time.h"
#include "sim/test/fork.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 8, ROUNDS = 10, BLOCK_BYTES = 4096 };
static const char path[] = "/disk.img";

static struct io_file file;
static unsigned workers_left;
static struct co_wait *all_done;
static struct loop *main_loop;

struct worker {
    unsigned number;
    struct loop *loop;
};

BLOCKING
static int64_t open_disk(void *opaque)
{
    return os_open(path, O_RDWR, 0);
}

BLOCKING
static int64_t close_disk(void *opaque)
{
    return os_close(*(int *)opaque);
}

static void check(bool condition, const char *what)
{
    if (!condition) {
        panic("check failed: %s", what);
    }
}

MAIN_LOOP
static void worker_is_done(void *opaque)
{
    if (--workers_left == 0) {
        co_wait_complete(all_done, 0);
    }
}

/* Each worker has its own blocks of the file. */
CO_FN
static void write_and_read_back(struct worker *worker, unsigned round)
{
    unsigned char out[BLOCK_BYTES], in[BLOCK_BYTES];
    struct iovec out_iov = {memset(out, (int)(worker->number * ROUNDS + round), sizeof(out)),
                            sizeof(out)};
    struct iovec in_iov = {memset(in, 0, sizeof(in)), sizeof(in)};
    uint64_t offset = (uint64_t)(worker->number * ROUNDS + round) * BLOCK_BYTES;

    check(io_co_pwritev(&file, &out_iov, 1, offset, round % 3 == 0 ? IO_FUA : 0) == BLOCK_BYTES,
          "write");
    if (round % 4 == 0) {
        check(io_co_fdatasync(&file) == 0, "flush");
    }
    check(io_co_preadv(&file, &in_iov, 1, offset) == BLOCK_BYTES, "read");
    check(memcmp(in, out, sizeof(in)) == 0, "data");
}

CO_FN
static void work(void *opaque)
{
    struct worker *worker = opaque;

    for (unsigned round = 0; round < ROUNDS; round++) {
        check(loop_self() == worker->loop, "at home");
        write_and_read_back(worker, round);
        if (round % 3 == 1) {
            loop_co_sleep(1000 * sim_random() % 1000000);
        }
    }
    mem_free(worker);
    bh_once(main_loop, worker_is_done, NULL, "worker-is-done");
}

MAIN_LOOP CO_FN
static void start_threads(void)
{
    const struct iothread_options options = {.thread_pool_max = 64, .poll_max_ns = 20000};

    check(iothread_co_new("io0", &options, NULL) == 0, "first I/O thread");
    check(iothread_co_new("io1", &options, NULL) == 0, "second I/O thread");
}

MAIN_LOOP CO_FN
static void run_workers(void)
{
    struct co_wait wait;

    co_wait_init(&wait);
    all_done = &wait;
    workers_left = WORKERS;
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *worker = mem_new(struct worker);

        worker->number = i;
        worker->loop = iothread_loop(iothread_find(i % 2 == 0 ? "io0" : "io1"));
        loop_co_spawn(worker->loop, work, worker, "worker");
    }
    co_wait_block(&wait);
}

CO_FN
static void body(void *opaque)
{
    int fd;

    loop_assert_main();
    fd = (int)pool_co_call(NULL, open_disk, NULL);
    check(fd >= 0, "open");
    io_file_init(&file, fd, IO_ENGINE);
    start_threads();
    run_workers();
    check(iothread_co_delete(iothread_find("io0"), NULL) == 0, "delete io0");
    check(iothread_co_delete(iothread_find("io1"), NULL) == 0, "delete io1");
    io_file_fini(&file);
    check(pool_co_call(NULL, close_disk, &fd) == 0, "close");
    loop_stop(loop_self());
}

static void check_file(void)
{
    unsigned char block[BLOCK_BYTES];

    for (unsigned i = 0; i < WORKERS * ROUNDS; i++) {
        check(sim_file_peek(path, (uint64_t)i * BLOCK_BYTES, block, sizeof(block)) == BLOCK_BYTES,
              "file size");
        check(block[0] == (unsigned char)i && block[BLOCK_BYTES - 1] == (unsigned char)i,
              "file content");
    }
}

TSA_TRUST
static void program(void *opaque)
{
    const struct loop_config config = {.name = "main", .engine = *(enum loop_engine_kind *)opaque};

    asym_init();
    sim_file_create(path, 0);
    main_loop = loop_new(&config, NULL);
    check(main_loop != NULL, "main loop");
    loop_co_spawn(main_loop, body, NULL, "body");
    loop_run(main_loop);
    check(loop_free(main_loop, NULL) == 0, "free the main loop");
    pool_stop();
    co_pool_release();
    check_file();
}

static struct sim_result run(uint64_t seed, enum loop_engine_kind engine)
{
    const struct sim_config config = {.seed = seed};

    return sim_run_forked(&config, program, &engine, false);
}

static unsigned test_engine(enum loop_engine_kind engine, const char *name)
{
    enum { SEEDS = 30 };
    struct sim_result results[SEEDS], again = run(0, engine);
    unsigned failed = 0;

    for (unsigned seed = 0; seed < SEEDS; seed++) {
        results[seed] = run(seed, engine);
        if (results[seed].status != 0) {
            printf("%s seed %u: status %d\n", name, seed, results[seed].status);
            failed++;
        }
        for (unsigned other = 0; other < seed; other++) {
            if (results[other].trace_hash == results[seed].trace_hash) {
                printf("%s seeds %u and %u: same trace hash\n", name, other, seed);
                failed++;
            }
        }
    }
    if (again.trace_hash != results[0].trace_hash || again.steps != results[0].steps) {
        printf("%s seed 0: two runs, two hashes\n", name);
        failed++;
    }
    printf("%s: %u steps with seed 0\n", name, results[0].steps);
    return failed;
}

int main(int argc, char **argv)
{
    enum loop_engine_kind engine = LOOP_ENGINE_IO_URING;
    unsigned failed;

    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        const struct sim_config config = {.seed = strtoull(argv[2], NULL, 10)};
        int status = sim_run(&config, program, &engine);

        printf("trace hash: %016" PRIx64 "\n", sim_trace_hash());
        return status;
    }
    failed = test_engine(LOOP_ENGINE_IO_URING, "io_uring") +
             test_engine(LOOP_ENGINE_EPOLL, "epoll");
    printf("%d passed, %u failed, 0 skipped\n", failed == 0 ? 2 : 0, failed);
    return failed != 0;
}
