/* runtime_ours.c -- our cases on one thread: coroutines, BHs, timers, watches, allocations. */
#include "runtime.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "co/co.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "os/file.h"

enum { TIMERS_ARMED = 100000, TIMERS_FIRED = 1000, FDS = 10000 };

ANY_THREAD ASSERTS(ctx_home)
static struct loop *loop_here(void)
{
    struct loop_config config = {.name = "bench"};
    struct err *error = NULL;
    struct loop *loop = loop_new(&config, &error);

    if (loop == NULL) {
        bench_skip(error->text);
    }
    return loop;
}

/* ---- coroutines, in the smallest home there can be ------------------------------------------- */

static struct co *ready;

ANY_THREAD
static void on_ready(struct co_sched *sched, struct co *co)
{
    ready = co;
}

static struct co_sched sched;
static bool is_over;

CO_FN
static void turns(void *opaque)
{
    while (!is_over) {
        co_yield_turn();
    }
}

CO_FN
static void waits(void *opaque)
{
    while (!is_over) {
        co_yield();
    }
}

ANY_THREAD ASSERTS(ctx_home)
static void home_is_here(void)
{
}

/* One direction: half of there and back. */
ANY_THREAD
static void run_switch(double seconds)
{
    struct bench_clock clock;
    uint64_t count = 0;

    home_is_here();
    co_sched_init(&sched, on_ready);
    co_start(co_new(turns, NULL, &sched, "turns"));
    bench_clock_start(&clock, seconds);
    do {
        for (unsigned i = 0; i < 1000; i++) {
            co_resume(ready);
        }
        count += 2000;
    } while (bench_now_ns() < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, count));
    is_over = true;
    co_resume(ready);
}

/* Woken, resumed, yielding: the whole way. */
ANY_THREAD
static void run_wake(double seconds)
{
    struct bench_clock clock;
    uint64_t count = 0;
    struct co *co;

    home_is_here();
    co_sched_init(&sched, on_ready);
    co = co_new(waits, NULL, &sched, "waits");
    co_start(co);
    bench_clock_start(&clock, seconds);
    do {
        for (unsigned i = 0; i < 1000; i++) {
            co_wake(co);
            co_resume(ready);
        }
        count += 1000;
    } while (bench_now_ns() < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, count));
    is_over = true;
    co_wake(co);
    co_resume(ready);
}

CO_FN
static void ends(void *opaque)
{
    (*(uint64_t *)opaque)++;
}

ANY_THREAD
static void run_create(double seconds)
{
    struct bench_clock clock;
    uint64_t count = 0;

    home_is_here();
    co_sched_init(&sched, on_ready);
    bench_clock_start(&clock, seconds);
    do {
        for (unsigned i = 0; i < 1000; i++) {
            co_start(co_new(ends, &count, &sched, "ends"));
        }
    } while (bench_now_ns() < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, count));
}

/* ---- bottom halves --------------------------------------------------------------------------- */

static struct bh *bh;
static uint64_t runs;

HOME_LOOP
static void schedules_itself(void *opaque)
{
    runs++;
    bh_schedule(bh);
}

ANY_THREAD
static void run_bh(double seconds)
{
    struct bench_clock clock;
    struct loop *loop = loop_here();

    bh = bh_new(loop, schedules_itself, NULL, "bench");
    bh_schedule(bh);
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        loop_poll(loop, true);
    }
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

/* ---- timers ---------------------------------------------------------------------------------- */

HOME_LOOP
static void on_timer(void *opaque)
{
    runs++;
}

ANY_THREAD
static void run_timer(double seconds)
{
    struct loop *loop = loop_here();
    struct loop_timer *timers = mem_alloc_array(TIMERS_ARMED + TIMERS_FIRED, sizeof(*timers));
    uint64_t now_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC);
    struct bench_clock clock;

    for (unsigned i = 0; i < TIMERS_ARMED + TIMERS_FIRED; i++) {
        loop_timer_init(&timers[i], LOOP_CLOCK_MONOTONIC, on_timer, NULL);
        if (i < TIMERS_ARMED) { /* in one to two hours */
            loop_timer_arm(&timers[i], now_ns + ((uint64_t)rand() % 3600 + 3600) * 1000000000);
        }
    }
    bench_clock_start(&clock, seconds);
    do {
        now_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC);
        for (unsigned i = TIMERS_ARMED; i < TIMERS_ARMED + TIMERS_FIRED; i++) {
            loop_timer_arm(&timers[i], now_ns);
        }
        while (loop_poll(loop, false)) {
        }
    } while (now_ns < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

/* ---- watches --------------------------------------------------------------------------------- */

struct watched {
    struct loop_watch watch;
    int fd;
};

HOME_LOOP
static void on_readable(void *opaque, unsigned events)
{
    struct watched *watched = opaque;

    os_eventfd_clear(watched->fd);
    runs++;
}

static const struct loop_watch_ops watch_ops = {.ready = on_readable};

HOME_LOOP
static struct watched *watch_many(unsigned count)
{
    struct watched *watched = mem_alloc_array(count, sizeof(*watched));

    memset(watched, 0, count * sizeof(*watched));
    for (unsigned i = 0; i < count; i++) {
        watched[i].fd = os_eventfd();
        if (watched[i].fd < 0 ||
            loop_watch_add(&watched[i].watch, watched[i].fd, LOOP_IN, &watch_ops, &watched[i]) <
                0) {
            bench_skip("so many descriptors cannot be watched");
        }
    }
    return watched;
}

ANY_THREAD
static void run_fd(double seconds)
{
    struct bench_clock clock;
    struct watched *watched;
    struct loop *loop;
    unsigned next = 0;

    bench_want_files(FDS + 100);
    loop = loop_here();
    watched = watch_many(FDS);
    loop_poll(loop, false);
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        uint64_t before = runs;

        next = (next + 7919) % FDS;
        os_eventfd_signal(watched[next].fd);
        while (runs == before) {
            loop_poll(loop, true);
        }
    }
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

/* ---- allocations in steady state: every kind of event ---------------------------------------- */

static struct io_file file;
static uint64_t events;

CO_FN
static void does_everything(void *opaque)
{
    static char block[512];
    struct iovec iov = {block, sizeof(block)};
    int fd = *(int *)opaque;

    while (!is_over) {
        loop_co_sleep(1000);
        if (io_co_preadv(&file, &iov, 1, 0) != sizeof(block)) {
            bench_skip("a read failed");
        }
        bh_schedule(bh);
        os_eventfd_signal(fd);
        if (loop_co_wait_fd(fd, LOOP_IN, 0) != LOOP_IN) {
            bench_skip("an eventfd stayed silent");
        }
        os_eventfd_clear(fd);
        co_yield_turn();
        events += 5;
    }
}

CO_FN
static void spawns(void *opaque)
{
    loop_co_spawn(loop_self(), ends, opaque, "ends");
}

HOME_LOOP
static void on_bh(void *opaque)
{
    loop_co_spawn(loop_self(), spawns, &events, "spawns");
}

ANY_THREAD ASSERTS(ctx_main)
static void main_is_here(void)
{
}

ANY_THREAD
static void run_allocations(double seconds)
{
    char path[] = "/var/tmp/caisson-bench-XXXXXX";
    struct loop *loop = loop_here();
    struct bench_clock clock;
    uint64_t before = 0, events_before = 0;
    int fd = os_eventfd(), disk = os_mkstemp(path);

    main_is_here();
    if (disk < 0 || os_unlink(path) < 0 || os_ftruncate(disk, 4096) < 0) {
        bench_skip("no temporary file");
    }
    io_file_init(&file, disk, IO_ENGINE);
    bh = bh_new(loop, on_bh, NULL, "bench");
    loop_co_spawn(loop, does_everything, &fd, "everything");
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        loop_poll(loop, true);
        if (events_before == 0 && events > 1000) {
            before = bench_allocations();
            events_before = events;
        }
    }
    bench_report("allocations", (double)(bench_allocations() - before));
    bench_report("events", (double)(events - events_before));
}

const struct bench_case bench_ours[] = {
    {"switch", run_switch}, {"wake", run_wake},   {"create", run_create},
    {"bh", run_bh},         {"timer", run_timer}, {"fd", run_fd},
    {"allocations", run_allocations}, {NULL, NULL},
};
