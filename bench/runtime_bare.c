/* runtime_bare.c -- what the machine can do: two threads and an eventfd each, or a cache line. */
#include "runtime.h"
#include <sys/eventfd.h>
#include <unistd.h>
#include "os/thread.h"
#include "sync/atomic.h"

static uint64_t rounds; /* atomic */

struct player {
    int cpu; /* -1: any */
    int from, to;
};

static void play(const struct player *player, bool counts)
{
    uint64_t one = 1, got;

    while (read(player->from, &got, sizeof(got)) == sizeof(got)) {
        if (counts) {
            at_store_relaxed(&rounds, rounds + 1); /* read by run_eventfd() */
        }
        if (write(player->to, &one, sizeof(one)) != sizeof(one)) {
            break;
        }
    }
}

BLOCKING
static void first_main(void *opaque)
{
    const struct player *player = opaque;

    if (player->cpu >= 0) {
        bench_pin(player->cpu);
    }
    play(player, true);
}

BLOCKING
static void second_main(void *opaque)
{
    const struct player *player = opaque;

    if (player->cpu >= 0) {
        bench_pin(player->cpu);
    }
    play(player, false);
}

BLOCKING
static void run_eventfd(double seconds, int cpu)
{
    int a = eventfd(1, EFD_CLOEXEC), b = eventfd(0, EFD_CLOEXEC);
    struct player first = {cpu, a, b}, second = {cpu, b, a};
    struct bench_clock clock;
    uint64_t before;

    os_thread_start("first", first_main, &first);
    os_thread_start("second", second_main, &second);
    usleep(100000);
    before = at_load_relaxed(&rounds);
    bench_clock_start(&clock, seconds);
    usleep((unsigned)(seconds * 1e6));
    before = at_load_relaxed(&rounds) - before;
    bench_report("ns", bench_clock_ns_each(&clock, before));
    bench_report("cpu_ns", bench_clock_cpu_ns_each(&clock, before));
}

BLOCKING
static void run_eventfd_pinned(double seconds)
{
    run_eventfd(seconds, 0);
}

BLOCKING
static void run_eventfd_free(double seconds)
{
    run_eventfd(seconds, -1);
}

/* ---- a cache line ---- */

static struct {
    uint64_t ball; /* atomic: even, the first player's turn */
} line __attribute__((aligned(128)));

static void bounce(uint64_t parity)
{
    while (true) {
        uint64_t seen;

        do {
            seen = at_load_acquire(&line.ball); /* pairs with the other player's store */
            if (seen % 2 != parity) {
                at_relax();
            }
        } while (seen % 2 != parity);
        at_store_release(&line.ball, seen + 1); /* pairs with the other player's load */
    }
}

BLOCKING
static void bounce_main(void *opaque)
{
    uint64_t parity = (uint64_t)(uintptr_t)opaque;

    bench_pin((int)parity);
    bounce(parity);
}

BLOCKING
static void run_line(double seconds)
{
    struct bench_clock clock;
    uint64_t before;

    os_thread_start("first", bounce_main, (void *)0);
    os_thread_start("second", bounce_main, (void *)1);
    usleep(100000);
    before = at_load(&line.ball);
    bench_clock_start(&clock, seconds);
    usleep((unsigned)(seconds * 1e6));
    bench_report("ns", bench_clock_ns_each(&clock, (at_load(&line.ball) - before) / 2));
}

const struct bench_case bench_bare[] = {
    {"bare.eventfd.pinned", run_eventfd_pinned},
    {"bare.eventfd.free", run_eventfd_free},
    {"bare.line", run_line},
    {NULL, NULL},
};
