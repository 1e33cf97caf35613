/* runtime_threads.c -- our cases between threads: wake-ups, many senders, idleness; and reads. */
#include "runtime.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/mem.h"
#include "co/lock.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "os/file.h"
#include "os/thread.h"
#include "sync/atomic.h"

enum { SENDERS = 8, BHS_PER_SENDER = 64, IDLE_S = 10 };

static uint32_t is_over; /* atomic */

/* ---- threads with a loop each ---- */

struct runner {
    struct loop *loop; /* atomic: set when it runs */
    struct os_thread *thread;
    uint64_t poll_ns;
    int cpu; /* -1: any */
    long os_id;
};

BLOCKING
static void runner_main(void *opaque)
{
    struct runner *runner = opaque;
    struct loop_config config = {.name = "bench", .poll_max_ns = runner->poll_ns};
    struct err *error = NULL;
    struct loop *loop;

    if (runner->cpu >= 0) {
        bench_pin(runner->cpu);
    }
    loop = loop_new(&config, &error);
    if (loop == NULL) {
        bench_skip(error->text);
    }
    runner->os_id = os_thread_id();
    at_store(&runner->loop, loop);
    loop_run(loop);
    exit(1); /* nobody stops it */
}

BLOCKING
static void runner_start(struct runner *runner)
{
    runner->thread = os_thread_start("bench", runner_main, runner);
    while (at_load(&runner->loop) == NULL) {
        sched_yield();
    }
}

/* ---- a ball between two loops ---- */

static struct bh *ping, *pong;
static uint64_t rounds; /* atomic */

HOME_LOOP
static void on_ping(void *opaque)
{
    bh_schedule(pong);
}

HOME_LOOP
static void on_pong(void *opaque)
{
    at_store_relaxed(&rounds, rounds + 1); /* read by run_ball() */
    bh_schedule(ping);
}

BLOCKING
static void run_ball(double seconds, int cpu_a, int cpu_b, uint64_t poll_ns)
{
    struct runner a = {.cpu = cpu_a, .poll_ns = poll_ns}, b = {.cpu = cpu_b, .poll_ns = poll_ns};
    struct bench_clock clock;
    uint64_t before;

    runner_start(&a);
    runner_start(&b);
    ping = bh_new(a.loop, on_ping, NULL, "ping");
    pong = bh_new(b.loop, on_pong, NULL, "pong");
    bh_schedule(ping);
    usleep(100000); /* until polling has adapted */
    before = at_load_relaxed(&rounds);
    bench_clock_start(&clock, seconds);
    usleep((unsigned)(seconds * 1e6));
    before = at_load_relaxed(&rounds) - before;
    bench_report("ns", bench_clock_ns_each(&clock, before));
    bench_report("cpu_ns", bench_clock_cpu_ns_each(&clock, before));
}

BLOCKING
static void run_ball_pinned(double seconds)
{
    run_ball(seconds, 0, 0, 0);
}

BLOCKING
static void run_ball_free(double seconds)
{
    run_ball(seconds, -1, -1, 0);
}

BLOCKING
static void run_ball_polling(double seconds)
{
    run_ball(seconds, 0, 1, 1000000);
}

/* ---- many senders, one loop ---- */

struct sent {
    struct bh *bh;
    uint32_t has_run; /* atomic */
};

static struct sent sent[SENDERS][BHS_PER_SENDER];
static uint64_t callbacks;

HOME_LOOP
static void on_sent(void *opaque)
{
    struct sent *one = opaque;

    callbacks++;
    at_store_release(&one->has_run, 1); /* pairs with sender_main() */
}

BLOCKING
static void sender_main(void *opaque)
{
    struct sent *mine = opaque;

    while (at_load_relaxed(&is_over) == 0) { /* run_senders() */
        bool any = false;

        for (unsigned i = 0; i < BHS_PER_SENDER; i++) {
            if (at_load_acquire(&mine[i].has_run)) { /* pairs with on_sent() */
                at_store_relaxed(&mine[i].has_run, 0); /* ordered by the scheduling */
                bh_schedule(mine[i].bh);
                any = true;
            }
        }
        if (!any) {
            sched_yield();
        }
    }
}

ANY_THREAD ASSERTS(ctx_home)
static struct loop *loop_here(void)
{
    struct loop_config config = {.name = "receiver", .poll_max_ns = 32768}; /* an I/O thread's */

    return loop_new(&config, NULL);
}

BLOCKING
static void run_senders(double seconds)
{
    struct os_thread *threads[SENDERS];
    struct loop *loop = loop_here();
    struct bench_clock clock;

    for (unsigned s = 0; s < SENDERS; s++) {
        for (unsigned i = 0; i < BHS_PER_SENDER; i++) {
            sent[s][i].bh = bh_new(loop, on_sent, &sent[s][i], "sent");
            sent[s][i].has_run = 1;
        }
        threads[s] = os_thread_start("sender", sender_main, sent[s]);
    }
    bench_clock_start(&clock, seconds);
    while (bench_now_ns() < clock.end_ns) {
        loop_poll(loop, true);
    }
    bench_report("per_s", 1e9 / bench_clock_ns_each(&clock, callbacks));
    at_store(&is_over, 1);
    for (unsigned s = 0; s < SENDERS; s++) {
        os_thread_join(threads[s]);
    }
}

/* ---- a mutex handed from loop to loop ---- */

static struct co_mutex mutex;
static struct loop *last_holder;
static uint64_t hand_overs; /* atomic */

/* Two on each loop, so that somebody always waits and a loop that waits sleeps. */
CO_FN
static void hands_over(void *opaque)
{
    while (true) {
        co_mutex_lock(&mutex);
        if (last_holder != loop_self()) {
            last_holder = loop_self();
            at_store_relaxed(&hand_overs, hand_overs + 1); /* read by run_mutex() */
        }
        if (list_is_empty(&mutex.waiters)) {
            co_yield_turn();
        }
        co_mutex_unlock(&mutex);
    }
}

BLOCKING
static void run_mutex(double seconds)
{
    struct runner a = {.cpu = -1}, b = {.cpu = -1};
    struct bench_clock clock;
    uint64_t before;

    co_mutex_init(&mutex);
    runner_start(&a);
    runner_start(&b);
    for (unsigned i = 0; i < 4; i++) {
        loop_co_spawn(i % 2 ? a.loop : b.loop, hands_over, NULL, "hands over");
    }
    usleep(100000);
    before = at_load_relaxed(&hand_overs);
    bench_clock_start(&clock, seconds);
    usleep((unsigned)(seconds * 1e6));
    bench_report("ns", bench_clock_ns_each(&clock, at_load_relaxed(&hand_overs) - before));
}

/* ---- idleness ---- */

/* How often the kernel has let a thread run: a thread that made a system call has run. */
BLOCKING
static unsigned long slices(long os_id)
{
    unsigned long run_ns, wait_ns, count = 0;
    char path[64];
    FILE *stat;

    snprintf(path, sizeof(path), "/proc/self/task/%ld/schedstat", os_id);
    stat = fopen(path, "re");
    if (stat == NULL || fscanf(stat, "%lu %lu %lu", &run_ns, &wait_ns, &count) != 3) {
        bench_skip("no /proc/self/task/*/schedstat");
    }
    fclose(stat);
    return count;
}

BLOCKING
static void run_idle(double seconds)
{
    struct runner runner = {.cpu = -1, .poll_ns = 32768};
    struct loop_stats before, after;
    unsigned long slices_before;

    runner_start(&runner);
    usleep(100000);
    loop_get_stats(runner.loop, &before);
    slices_before = slices(runner.os_id);
    sleep(IDLE_S);
    loop_get_stats(runner.loop, &after);
    bench_report("system_calls", (double)(after.system_calls - before.system_calls));
    bench_report("slices", (double)(slices(runner.os_id) - slices_before));
}

/* ---- reads ---- */

enum { BLOCK_BYTES = 4096, DEPTH_MAX = 32 };
static struct io_file file;
static uint64_t file_blocks, reads, end_ns;

CO_FN
static void reads_at_random(void *opaque)
{
    unsigned seed = (unsigned)(uintptr_t)opaque;
    struct iovec iov = {mem_try_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES};

    while (bench_now_ns() < end_ns) {
        uint64_t block = ((uint64_t)(unsigned)rand_r(&seed) << 16 ^ (unsigned)rand_r(&seed));

        if (io_co_preadv(&file, &iov, 1, block % file_blocks * BLOCK_BYTES) != BLOCK_BYTES) {
            bench_skip("a read failed");
        }
        reads++;
    }
    loop_stop(loop_self());
}

ANY_THREAD ASSERTS(ctx_main)
static void main_is_here(void)
{
}

BLOCKING
static void run_reads(double seconds, unsigned depth)
{
    struct loop_config config = {.name = "reader", .poll_max_ns = 32768};
    struct loop *loop = loop_new(&config, NULL);
    struct bench_clock clock;
    struct stat stat;
    int fd = bench_path ? os_open(bench_path, O_RDONLY | O_DIRECT, 0) : -1;

    main_is_here();
    if (loop == NULL || fd < 0 || os_fstat(fd, &stat) < 0) {
        bench_skip("no file that can be read directly");
    }
    file_blocks = (uint64_t)stat.st_size / BLOCK_BYTES;
    io_file_init(&file, fd, IO_ENGINE);
    bench_clock_start(&clock, seconds);
    end_ns = clock.end_ns;
    for (unsigned i = 0; i < depth; i++) {
        loop_co_spawn(loop, reads_at_random, (void *)(uintptr_t)(i + 1), "reader");
    }
    loop_run(loop);
    bench_report("iops", 1e9 / bench_clock_ns_each(&clock, reads));
}

BLOCKING
static void run_read_1(double seconds)
{
    run_reads(seconds, 1);
}

BLOCKING
static void run_read_32(double seconds)
{
    run_reads(seconds, DEPTH_MAX);
}

const struct bench_case bench_ours_threads[] = {
    {"ball.pinned", run_ball_pinned},
    {"ball.free", run_ball_free},
    {"ball.polling", run_ball_polling},
    {"senders", run_senders},
    {"mutex", run_mutex},
    {"idle", run_idle},
    {"read.1", run_read_1},
    {"read.32", run_read_32},
    {NULL, NULL},
};
