/* loop_co.c -- coroutines and their loops: beginning, moving, sleeping, waiting for a
 * descriptor. */
#include "loop/loop_int.h"
#include <errno.h>

void loop_co_spawn(struct loop *loop, co_fn *fn, void *opaque, const char *name)
{
    co_wake(co_new(fn, opaque, &loop->sched, name));
}

void loop_co_start(co_fn *fn, void *opaque, const char *name)
{
    co_start(co_new(fn, opaque, &loop_self()->sched, name));
}

void loop_co_move(struct loop *loop)
{
    co_move(&loop->sched);
}

/* ---- sleep ---- */

HOME_LOOP
static void on_slept(void *opaque)
{
    co_wake(opaque);
}

void loop_co_sleep(uint64_t ns)
{
    struct loop_timer timer;

    loop_assert_home(loop_self());
    loop_timer_init(&timer, LOOP_CLOCK_MONOTONIC, on_slept, co_self());
    loop_timer_arm(&timer, loop_now_ns(LOOP_CLOCK_MONOTONIC) + ns);
    co_yield();
}

/* ---- a descriptor ---- */

/* On the waiter's stack; all on its own loop, so whichever callback comes first wins plainly. */
struct fd_wait {
    struct loop_watch watch;
    struct loop_timer timer;
    struct co *co;
    int result;
    bool is_over;
};

HOME_LOOP
static void fd_wait_end(struct fd_wait *wait, int result)
{
    if (!wait->is_over) {
        wait->is_over = true;
        wait->result = result;
        co_wake(wait->co);
    }
}

HOME_LOOP
static void on_fd_ready(void *opaque, unsigned events)
{
    struct fd_wait *wait = opaque;

    loop_watch_set(&wait->watch, 0);
    fd_wait_end(wait, (int)events);
}

HOME_LOOP
static void on_fd_timeout(void *opaque)
{
    fd_wait_end(opaque, -ETIMEDOUT);
}

static const struct loop_watch_ops fd_wait_ops = {.ready = on_fd_ready};

int loop_co_wait_fd(int fd, unsigned events, uint64_t deadline_ns)
{
    struct fd_wait wait = {.co = co_self()};
    int rc;

    loop_assert_home(loop_self());
    rc = loop_watch_add(&wait.watch, fd, events, &fd_wait_ops, &wait);
    if (rc < 0) {
        return rc;
    }
    loop_timer_init(&wait.timer, LOOP_CLOCK_MONOTONIC, on_fd_timeout, &wait);
    if (deadline_ns != 0) {
        loop_timer_arm(&wait.timer, deadline_ns);
    }
    co_yield();
    loop_timer_cancel(&wait.timer);
    loop_watch_remove(&wait.watch);
    return wait.result;
}
