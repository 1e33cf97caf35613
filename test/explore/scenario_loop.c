/*
 * scenario_loop.c -- loop/loop.c, notify.c, bh.c and ready.c with an engine that only waits for the
 * loop's eventfd: no wake-up is lost, no callback runs too often, order is kept.
 *
 * Actor 0 is the home; the others schedule. A lost wake-up leaves the home waiting for ever:
 * "stuck".
 */
#include "explore.h"
#include "explore_os.h"
#include "loop/engine_int.h"
#include "os/file.h"
#include "os/thread.h"
#include <string.h>

/* ---- the engine and the registry of this program ---- */

static struct loop the_loop;
static bool is_up, event_is_read;

HOME_LOOP
static int engine_open(struct loop *loop, struct err **reterr)
{
    return 0;
}

HOME_LOOP
static void engine_close(struct loop *loop)
{
}

/* As the ring: the read of the eventfd is the kernel's, before the loop hears of it. */
HOME_LOOP
static void engine_collect(struct loop *loop, uint64_t timeout_ns)
{
    if (timeout_ns != 0) {
        explore_eventfd_wait(loop->notifier.fd);
    }
    event_is_read = os_eventfd_clear(loop->notifier.fd) || event_is_read;
}

HOME_LOOP
static bool engine_dispatch(struct loop *loop)
{
    if (event_is_read) {
        event_is_read = false;
        notifier_consumed(&loop->notifier);
    }
    return false;
}

const struct engine_ops engine_uring = {
    .name = "explored",
    .open = engine_open,
    .close = engine_close,
    .collect = engine_collect,
    .dispatch = engine_dispatch,
};
const struct engine_ops engine_epoll = {.name = "none"};

struct loop *registry_take(struct err **reterr)
{
    memset(&the_loop, 0, sizeof(the_loop));
    the_loop.notifier.fd = os_eventfd();
    return &the_loop;
}

void registry_give_back(struct loop *loop)
{
}

struct loop *loop_main(void)
{
    return &the_loop;
}

/* ---- what every scenario has ---- */

enum { BHS = 3, SCHEDULES = 30000 };

static struct bh *bhs[BHS];
static unsigned runs[BHS], order[16], order_count;
static uint64_t data, data_seen;
static unsigned ended;

static void setup(void)
{
    is_up = event_is_read = false;
    memset(runs, 0, sizeof(runs));
    order_count = ended = 0;
    data = data_seen = 0;
}

HOME_LOOP
static void runs_it(void *opaque)
{
    unsigned number = (unsigned)(uintptr_t)opaque;

    runs[number]++;
    order[order_count++] = number;
    data_seen = at_load_buffered(&data);
}

static void home_begin(void)
{
    static const struct loop_config config = {.name = "home", .engine = LOOP_ENGINE_IO_URING};
    struct loop *loop = loop_new(&config, NULL);

    for (unsigned i = 0; i < BHS; i++) {
        bhs[i] = bh_new(loop, runs_it, (void *)(uintptr_t)i, "explored");
    }
    is_up = true;
}

static bool home_is_up(void *opaque)
{
    return is_up;
}

static void wait_for_home(void)
{
    explore_wait(home_is_up, NULL, "home-is-up");
}

/* ---- sleep against schedule; two schedulers ---- */

static void one_scheduler(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (runs[0] == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    bh_schedule(bhs[0]);
}

static void two_schedulers(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (runs[0] == 0 || runs[1] == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    bh_schedule(bhs[i - 1]);
}

static void each_ran_once(void)
{
    explore_check(runs[0] == 1 && runs[1] <= 1);
}

/* Both schedule the same one: it runs once or twice, and somebody wakes the home. */
static void same_bh(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (ended < 2 || runs[0] == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    bh_schedule(bhs[0]);
    ended++;
    bh_schedule(bhs[2]);
}

static void same_check(void)
{
    explore_check(runs[0] == 1 || runs[0] == 2);
}

/* ---- what was written before a schedule is seen by the run it causes ---- */

static void writes_then_schedules(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (data_seen != 2) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    at_store_buffered(&data, 1);
    bh_schedule(bhs[0]);
    at_store_buffered(&data, 2);
    bh_schedule(bhs[0]); /* pending still, or under way, or over */
}

/* ---- order ---- */

static void keeps_order(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (order_count < 3) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    if (i == 1) {
        bh_schedule(bhs[0]);
        bh_schedule(bhs[1]);
    } else {
        bh_schedule(bhs[2]);
    }
}

static unsigned place_of(unsigned number)
{
    for (unsigned i = 0; i < order_count; i++) {
        if (order[i] == number) {
            return i;
        }
    }
    explore_fail("BH %u has not run", number);
}

static void order_check(void)
{
    explore_check(place_of(0) < place_of(1));
}

/* ---- cancel, idle, delete ---- */

static void cancelled_and_scheduled_again(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (runs[0] == 0 || runs[1] == 0 || ended == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    if (i == 1) {
        bh_schedule(bhs[0]);
        bh_cancel(bhs[0]);
        bh_schedule(bhs[0]);
        ended = 1;
        bh_schedule(bhs[2]);
    } else {
        bh_schedule(bhs[1]);
    }
}

static void cancel_check(void)
{
    explore_check(runs[0] == 1 || runs[0] == 2);
    explore_check(runs[1] == 1);
}

/* The clock stands still, so only the second schedule can make it run. */
static void idle_becomes_prompt(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (runs[0] == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    if (i == 1) {
        bh_schedule_idle(bhs[0]);
    } else {
        bh_schedule(bhs[0]);
    }
}

static bool others_are_done(void *opaque)
{
    return explore_is_done(1) && explore_is_done(2);
}

static void deleted_while_scheduled(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (runs[1] == 0) {
            loop_poll(&the_loop, true);
        }
        explore_wait(others_are_done, NULL, "others-are-done");
        loop_poll(&the_loop, false);
        loop_assert_home(&the_loop);
        explore_check(bh_queue_is_empty(&the_loop.bhs)); /* so it is freed */
        return;
    }
    wait_for_home();
    if (i == 1) {
        bh_schedule(bhs[0]);
        bh_delete(bhs[0]);
    } else {
        bh_schedule(bhs[1]);
    }
}

static void delete_check(void)
{
    explore_check(runs[0] <= 1);
    explore_check(at_load(&the_loop.bhs.living) == BHS); /* stop_bh is one of them */
}

/* ---- a poll inside a callback sleeps too (the "dispatching" bug) ---- */

HOME_LOOP
static void polls_until_the_other_ran(void *opaque)
{
    while (runs[1] == 0) {
        loop_poll(&the_loop, true);
    }
    runs[0]++;
}

static void nested_sleep(unsigned i)
{
    if (i == 0) {
        home_begin();
        bh_once(&the_loop, polls_until_the_other_ran, NULL, "nested");
        while (runs[0] == 0) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    bh_schedule(bhs[1]);
}

/* ---- coroutines woken by another thread ---- */

static struct co_wait the_wait;
static bool wait_is_known;

CO_FN
static void waits_twice(void *opaque)
{
    for (int n = 0; n < 2; n++) {
        co_wait_init(&the_wait);
        wait_is_known = true;
        explore_check(co_wait_block(&the_wait) == 5);
    }
    ended = 1;
}

static bool is_known(void *opaque)
{
    return wait_is_known;
}

static void co_setup(void)
{
    setup();
    wait_is_known = false;
}

static void wakes_a_coroutine(unsigned i)
{
    if (i == 0) {
        home_begin();
        loop_co_spawn(&the_loop, waits_twice, NULL, "waiter");
        while (ended == 0) {
            loop_poll(&the_loop, true);
        }
        co_pool_release();
        return;
    }
    for (int n = 0; n < 2; n++) {
        explore_wait(is_known, NULL, "wait-is-known");
        wait_is_known = false;
        co_wait_complete(&the_wait, 5);
    }
}

/* Spawned from two threads, while the home sleeps or runs. */
CO_FN
static void ends_at_once(void *opaque)
{
    ended++;
}

static void two_spawn(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (ended < 2) {
            loop_poll(&the_loop, true);
        }
        co_pool_release();
        return;
    }
    wait_for_home();
    loop_co_spawn(&the_loop, ends_at_once, NULL, "spawned");
    co_pool_release();
}

/* ---- at most one write a batch ---- */

static void sends_a_batch(unsigned i)
{
    if (i == 0) {
        home_begin();
        while (order_count < 3) {
            loop_poll(&the_loop, true);
        }
        return;
    }
    wait_for_home();
    for (unsigned n = 0; n < 3; n++) {
        bh_schedule(bhs[n]);
    }
}

static void batch_check(void)
{
    /* one for each time the home could go to sleep in between, never one more */
    explore_check(explore_eventfd_writes(the_loop.notifier.fd) <= 3);
    explore_check(the_loop.stats.iterations > 0);
}

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"sleep-or-schedule", 2, one_scheduler, setup, each_ran_once, .schedules = SCHEDULES},
        {"two-schedulers", 3, two_schedulers, setup, each_ran_once, .schedules = SCHEDULES},
        {"same-bh", 3, same_bh, setup, same_check, .schedules = SCHEDULES},
        {"write-then-schedule", 2, writes_then_schedules, setup, .schedules = SCHEDULES},
        {"order", 3, keeps_order, setup, order_check, .schedules = SCHEDULES},
        {"cancel", 3, cancelled_and_scheduled_again, setup, cancel_check, .schedules = SCHEDULES},
        {"idle-to-prompt", 3, idle_becomes_prompt, setup, .schedules = SCHEDULES},
        {"delete", 3, deleted_while_scheduled, setup, delete_check, .schedules = SCHEDULES},
        {"nested-sleep", 2, nested_sleep, setup, .schedules = SCHEDULES},
        {"foreign-wake", 2, wakes_a_coroutine, co_setup, .schedules = SCHEDULES},
        {"two-spawn", 3, two_spawn, setup, .schedules = SCHEDULES},
        {"batch", 2, sends_a_batch, setup, batch_check, .schedules = SCHEDULES},
    };
    return explore_main(argc, argv, scenarios, countof(scenarios));
}
