/* runtime_uv.c -- the same work on libuv. */
#include "runtime.h"
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>
#include "os/thread.h"
#include "sync/atomic.h"

enum { TIMERS_ARMED = 100000, TIMERS_FIRED = 1000, FDS = 10000, SENDERS = 8, PER_SENDER = 64 };

static uint64_t runs;
static uint32_t is_over; /* atomic */

/* ---- scheduling in the same loop ---- */

static void on_async_again(uv_async_t *async)
{
    runs++;
    uv_async_send(async);
}

static void run_async(double seconds)
{
    struct bench_clock clock;
    uv_async_t async;
    uv_loop_t loop;

    uv_loop_init(&loop);
    uv_async_init(&loop, &async, on_async_again);
    uv_async_send(&async);
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

/* ---- a ball between two loops ---- */

struct player {
    uv_loop_t loop;
    uv_async_t async;
    struct player *other;
    uint64_t rounds; /* atomic */
};

static void on_ball(uv_async_t *async)
{
    struct player *player = async->data;

    at_store_relaxed(&player->rounds, player->rounds + 1); /* read by run_ball() */
    uv_async_send(&player->other->async);
}

static void player_main(void *opaque)
{
    struct player *player = opaque;

    bench_pin(0);
    uv_run(&player->loop, UV_RUN_DEFAULT);
}

static void run_ball(double seconds)
{
    static struct player players[2];
    struct bench_clock clock;
    uint64_t before;

    for (unsigned i = 0; i < 2; i++) {
        uv_loop_init(&players[i].loop);
        uv_async_init(&players[i].loop, &players[i].async, on_ball);
        players[i].async.data = &players[i];
        players[i].other = &players[1 - i];
    }
    os_thread_start("first", player_main, &players[0]);
    os_thread_start("second", player_main, &players[1]);
    uv_async_send(&players[0].async);
    usleep(100000);
    before = at_load_relaxed(&players[0].rounds);
    bench_clock_start(&clock, seconds);
    usleep((unsigned)(seconds * 1e6));
    before = at_load_relaxed(&players[0].rounds) - before;
    bench_report("ns", bench_clock_ns_each(&clock, before));
    bench_report("cpu_ns", bench_clock_cpu_ns_each(&clock, before));
}

/* ---- many senders ---- */

struct sent {
    uv_async_t async;
    uint32_t has_run; /* atomic */
};

static struct sent sent[SENDERS][PER_SENDER];

static void on_sent(uv_async_t *async)
{
    struct sent *one = async->data;

    runs++;
    at_store_release(&one->has_run, 1); /* pairs with sender_main() */
}

static void sender_main(void *opaque)
{
    struct sent *mine = opaque;

    while (at_load_relaxed(&is_over) == 0) { /* run_senders() */
        bool any = false;

        for (unsigned i = 0; i < PER_SENDER; i++) {
            if (at_load_acquire(&mine[i].has_run)) { /* pairs with on_sent() */
                at_store_relaxed(&mine[i].has_run, 0); /* ordered by the sending */
                uv_async_send(&mine[i].async);
                any = true;
            }
        }
        if (!any) {
            sched_yield();
        }
    }
}

static void run_senders(double seconds)
{
    struct bench_clock clock;
    uv_loop_t loop;

    uv_loop_init(&loop);
    for (unsigned s = 0; s < SENDERS; s++) {
        for (unsigned i = 0; i < PER_SENDER; i++) {
            uv_async_init(&loop, &sent[s][i].async, on_sent);
            sent[s][i].async.data = &sent[s][i];
            sent[s][i].has_run = 1;
        }
    }
    for (unsigned s = 0; s < SENDERS; s++) {
        os_thread_start("sender", sender_main, sent[s]);
    }
    bench_clock_start(&clock, seconds);
    while (bench_now_ns() < clock.end_ns) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    bench_report("per_s", 1e9 / bench_clock_ns_each(&clock, runs));
    at_store(&is_over, 1);
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *timer)
{
    runs++;
}

static void run_timer(double seconds)
{
    static uv_timer_t timers[TIMERS_ARMED + TIMERS_FIRED];
    struct bench_clock clock;
    uv_loop_t loop;

    uv_loop_init(&loop);
    for (unsigned i = 0; i < TIMERS_ARMED + TIMERS_FIRED; i++) {
        uv_timer_init(&loop, &timers[i]);
        if (i < TIMERS_ARMED) {
            uv_timer_start(&timers[i], on_timer, ((uint64_t)rand() % 3600 + 3600) * 1000, 0);
        }
    }
    bench_clock_start(&clock, seconds);
    do {
        uint64_t wanted = runs + TIMERS_FIRED;

        for (unsigned i = TIMERS_ARMED; i < TIMERS_ARMED + TIMERS_FIRED; i++) {
            uv_timer_start(&timers[i], on_timer, 0, 0);
        }
        while (runs < wanted) {
            uv_run(&loop, UV_RUN_NOWAIT);
        }
    } while (bench_now_ns() < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

/* ---- descriptors ---- */

static void on_readable(uv_poll_t *poll, int status, int events)
{
    uint64_t got;

    if (read((int)(intptr_t)poll->data, &got, sizeof(got)) == sizeof(got)) {
        runs++;
    }
}

static void run_fd(double seconds)
{
    static uv_poll_t polls[FDS];
    static int fds[FDS];
    struct bench_clock clock;
    uint64_t one = 1;
    unsigned next = 0;
    uv_loop_t loop;

    bench_want_files(FDS + 100);
    uv_loop_init(&loop);
    for (unsigned i = 0; i < FDS; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        uv_poll_init(&loop, &polls[i], fds[i]);
        polls[i].data = (void *)(intptr_t)fds[i];
        uv_poll_start(&polls[i], UV_READABLE, on_readable);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        uint64_t before = runs;

        next = (next + 7919) % FDS;
        if (write(fds[next], &one, sizeof(one)) != sizeof(one)) {
            break;
        }
        while (runs == before) {
            uv_run(&loop, UV_RUN_ONCE);
        }
    }
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

const struct bench_case bench_uv[] = {
    {"uv.async", run_async}, {"uv.ball", run_ball}, {"uv.senders", run_senders},
    {"uv.timer", run_timer}, {"uv.fd", run_fd},     {NULL, NULL},
};
