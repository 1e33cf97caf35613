/*
 * host.c -- a loop inside a host program's own loop.
 *
 * The host calls loop_host_prepare() right before it waits, waits for loop_host_fd() and the
 * deadline among its own sources, and calls loop_host_run() when either has come.
 *
 * (O1) From prepare until loop_host_run() or the next prepare, the loop counts as one that
 *      prepares or waits (N1): whoever schedules writes the eventfd, which the host's descriptor
 *      reports.
 * (O2) A level that runs in between (the host polls the loop nested, from one of its own callbacks)
 *      leaves the host's level counted. What it leaves undone on the way out is announced through
 *      the eventfd, for the host may be about to wait on a deadline that is no longer true.
 */
#include "loop/engine_int.h"
#include "os/time.h"

int loop_host_fd(const struct loop *loop)
{
    assert(loop->is_hosted);
    return loop->engine->host_fd(loop);
}

void host_leave(struct loop *loop)
{
    if (loop->host_waits) {
        loop->host_waits = false;
        notifier_leave(&loop->notifier);
    }
}

/* (O2) */
void host_renew(struct loop *loop)
{
    if (unlikely(loop->host_waits) && (loop_has_work(loop) || loop->engine->has_events(loop))) {
        notifier_kick(&loop->notifier);
    }
}

uint64_t loop_host_prepare(struct loop *loop)
{
    uint64_t wait_ns, now_ns;

    loop_assert_home(loop);
    assert(loop->is_hosted);
    host_leave(loop);
    if (loop_has_work(loop)) {
        return 0;
    }
    notifier_prepare(&loop->notifier);
    loop->host_waits = true; /* (O1) */
    if (watch_before_sleep(loop) || loop_has_work(loop)) {
        return 0;
    }
    loop->engine->host_arm(loop);
    if (loop->engine->has_events(loop)) {
        return 0;
    }
    wait_ns = loop_timeout_ns(loop);
    now_ns = os_now_monotonic_ns();
    return wait_ns < UINT64_MAX - now_ns ? now_ns + wait_ns : UINT64_MAX;
}

bool loop_host_run(struct loop *loop)
{
    loop_assert_home(loop);
    host_leave(loop);
    return loop_poll(loop, false);
}
