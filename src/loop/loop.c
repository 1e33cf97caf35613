/*
 * loop.c -- one iteration, and the life of a loop.
 *
 *   loop_poll:  anything to do?  --yes-->  collect events without waiting --+
 *                  | no                                                      |
 *                  +-> spin (poll.c) --hit--> collect -----------------------+--> dispatch
 *                  |                                                         |
 *                  +-> wait: raise notify, sources' before_sleep,            |
 *                      look again at everything, submit and wait ------------+
 *
 *   dispatch:   events of the engine, sources with work in memory, timers, BHs, ready coroutines,
 *               deferred calls; each at most LOOP_BUDGET items; ready coroutines after each
 *               callback.
 *
 * (I1) One poll at the bottom of a thread's stack, never in a coroutine. Levels may nest (host
 *      programs).
 * (I2) It sleeps only if, after notify was raised, every list was empty and every source said no.
 * (I3) What a level has taken but not run stays on lists of the loop, where a nested level finds
 *      it.
 */
#include "loop/engine_int.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/rcu.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LAST_TURNS_MAX = 1000 }; /* of a loop that is freed */

struct loop *loop_self(void)
{
    return os_tls_get(OS_TLS_LOOP);
}

void loop_assert_home(const struct loop *loop)
{
    if (unlikely(loop_self() != loop)) {
        panic("loop '%s' touched from outside its thread", loop->name);
    }
}

void loop_assert_main(void)
{
    if (unlikely(loop_self() == NULL || loop_self() != loop_main())) {
        panic("main loop only");
    }
}

/* ---- one iteration ---- */

bool loop_has_work(struct loop *loop)
{
    return bh_queue_has_work(&loop->bhs) || ready_has_work(loop) || !list_is_empty(&loop->hits) ||
           !list_is_empty(&loop->defers);
}

/* Of timers and idle BHs; 0: one is due. */
uint64_t loop_timeout_ns(const struct loop *loop)
{
    uint64_t now_ns, timer_ns, idle_ns;

    if (loop->bhs.idle == NULL && timer_count(loop) == 0) {
        return UINT64_MAX;
    }
    now_ns = os_now_monotonic_ns();
    timer_ns = timer_timeout_ns(loop, now_ns);
    idle_ns = bh_queue_timeout_ns(&loop->bhs, now_ns);
    return min_of(timer_ns, idle_ns);
}

HOME_LOOP
static void wait_for_work(struct loop *loop)
{
    bool is_polling = at_load_relaxed(&loop->polling.max_ns) != 0; /* loop_set_polling() */
    uint64_t began_ns = is_polling ? os_now_monotonic_ns() : 0;
    uint64_t wait_ns = 0;

    if (is_polling && poll_spin(loop)) {
        loop->engine->collect(loop, 0);
        return;
    }
    notifier_prepare(&loop->notifier);
    if (!watch_before_sleep(loop) && !loop_has_work(loop)) { /* (I2) */
        wait_ns = loop_timeout_ns(loop);
    }
    if (wait_ns != 0) {
        loop_event(loop, LOOP_EVENT_SLEEP, NULL, (int64_t)min_of(wait_ns, (uint64_t)INT64_MAX));
        rcu_thread_offline();
        loop->engine->collect(loop, wait_ns);
        rcu_thread_online();
        loop_event(loop, LOOP_EVENT_WOKEN, NULL, 0);
    }
    notifier_leave(&loop->notifier);
    if (wait_ns == 0) {
        loop->engine->collect(loop, 0);
    } else if (is_polling) {
        poll_adapt(loop, os_now_monotonic_ns() - began_ns);
    }
}

HOME_LOOP
static bool dispatch(struct loop *loop)
{
    bool progress = loop->engine->dispatch(loop);

    watch_look(loop);
    progress = watch_run_hits(loop) || progress;
    progress = timer_run(loop) || progress;
    progress = bh_queue_run(loop) || progress;
    progress = ready_run(loop) || progress;
    defer_run(loop);
    return progress;
}

bool loop_poll(struct loop *loop, bool may_wait)
{
    bool progress;

    loop_assert_home(loop);
    if (unlikely(loop->is_preparing || co_self() != NULL)) {
        panic("loop '%s' polled from %s", loop->name,
              loop->is_preparing ? "a source's poll()" : "a coroutine"); /* (I1) */
    }
    STAT_ADD(loop, iterations, 1);
    if (!may_wait || loop_has_work(loop)) {
        loop->engine->collect(loop, 0);
    } else {
        wait_for_work(loop);
    }
    progress = dispatch(loop);
    host_renew(loop);
    return progress;
}

/* ---- life ---- */

HOME_LOOP
static int open_engine(struct loop *loop, enum loop_engine_kind kind, struct err **reterr)
{
    AUTO(err) struct err *why = NULL;
    int rc;

    if (kind != LOOP_ENGINE_EPOLL) {
        loop->engine = &engine_uring;
        rc = loop->engine->open(loop, &why);
        if (rc == 0 || kind == LOOP_ENGINE_IO_URING) {
            err_propagate(reterr, take(&why));
            return rc;
        }
        log_warn("loop '%s': %s; using epoll", loop->name, why->text);
    }
    loop->engine = &engine_epoll;
    return loop->engine->open(loop, reterr);
}

HOME_LOOP
static void name_engine(struct loop *loop)
{
    const char *flags = loop->engine_flags;

    snprintf(loop->engine_text, sizeof(loop->engine_text), flags ? "%s (%s)" : "%s",
             loop->engine->name, flags ? flags : "");
}

HOME_LOOP
static void on_stop(void *opaque)
{
    struct loop *loop = opaque;

    loop->is_stopped = true;
}

HOME_LOOP
static void init(struct loop *loop, const struct loop_config *config)
{
    snprintf(loop->name, sizeof(loop->name), "%s", config->name ? config->name : "loop");
    bh_queue_init(&loop->bhs);
    ready_init(loop);
    loop_set_polling(loop, config->poll_max_ns, config->poll_grow, config->poll_shrink);
    loop->polling.now_ns = 0;
    loop_set_aio_max_batch(loop, config->aio_max_batch);
    memset(loop->timers, 0, sizeof(loop->timers));
    memset(&loop->stats, 0, sizeof(loop->stats));
    memset(&loop->recent, 0, sizeof(loop->recent));
    loop->is_stopped = loop->is_preparing = loop->host_waits = false;
    loop->is_hosted = config->is_hosted;
    loop->engine_flags = NULL;
    loop->stop_bh = NULL;
    list_init(&loop->defers);
    list_init(&loop->slots_used);
    list_init(&loop->slots_free);
    list_init(&loop->pollable);
    list_init(&loop->hits);
}

HOME_LOOP
static void fini(struct loop *loop)
{
    watch_fini(loop);
    for (unsigned i = 0; i < LOOP_CLOCK_MAX_; i++) {
        mem_free(loop->timers[i].items);
    }
    if (loop->registered_rcu) {
        rcu_thread_unregister();
    }
    os_tls_set(OS_TLS_LOOP, NULL);
    os_tls_set(OS_TLS_LOOP_INDEX, NULL);
    registry_give_back(loop);
}

struct loop *loop_new(const struct loop_config *config, struct err **reterr)
{
    struct loop *loop;

    if (loop_self() != NULL) {
        panic("a second loop for one thread");
    }
    loop = registry_take(reterr);
    if (loop == NULL) {
        return NULL;
    }
    os_tls_set(OS_TLS_LOOP, loop);
    os_tls_set(OS_TLS_LOOP_INDEX, (void *)(uintptr_t)(loop->index + 1));
    loop_assert_home(loop);
    init(loop, config);
    loop->registered_rcu = !rcu_thread_is_registered();
    if (loop->registered_rcu) {
        rcu_thread_register();
    }
    if (open_engine(loop, config->engine, reterr) < 0) {
        fini(loop);
        return NULL;
    }
    name_engine(loop);
    loop->stop_bh = bh_new(loop, on_stop, loop, "loop_stop");
    return loop;
}

HOME_LOOP
static int check_nothing_left(struct loop *loop, struct err **reterr)
{
    unsigned cos, bhs = at_load(&loop->bhs.living) - 1; /* stop_bh */
    const char *oldest = co_sched_oldest(&loop->sched, &cos);
    size_t timers = timer_count(loop);
    unsigned ios = loop->engine->io_count(loop), watches = 0;
    struct list *item;

    for (item = loop->slots_used.next; item != &loop->slots_used; item = item->next) {
        watches++;
    }
    if (cos + bhs + timers + ios + watches == 0 && bh_queue_is_empty(&loop->bhs) &&
        !ready_has_work(loop)) {
        return 0;
    }
    return err_set(reterr, EBUSY,
                   "loop '%s' has work left: %u coroutines (%s), %u bottom halves, %zu timers, "
                   "%u watches, %u transfers",
                   loop->name, cos, oldest ? oldest : "none", bhs, timers, watches, ios);
}

int loop_free(struct loop *loop, struct err **reterr)
{
    unsigned turns = 0;
    int rc;

    loop_assert_home(loop);
    host_leave(loop);
    while (loop_poll(loop, false) && turns++ < LAST_TURNS_MAX) {
        /* what is scheduled still runs, what is deleted is freed */
    }
    rc = check_nothing_left(loop, reterr);
    if (rc < 0) {
        return rc;
    }
    bh_delete(take(&loop->stop_bh));
    loop_poll(loop, false);
    loop->engine->close(loop);
    fini(loop);
    return 0;
}

void loop_run(struct loop *loop)
{
    loop_assert_home(loop);
    while (!loop->is_stopped) {
        loop_poll(loop, true);
    }
    loop->is_stopped = false;
    ready_run(loop);
    defer_run(loop);
}

void loop_stop(struct loop *loop)
{
    bh_schedule(loop->stop_bh); /* runs after what was scheduled before */
}

/* ---- what others ask ---- */

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

const char *loop_name(const struct loop *loop)
{
    return loop->name;
}

struct co_sched *loop_co_sched(struct loop *loop)
{
    return &loop->sched;
}

const char *loop_engine_text(const struct loop *loop)
{
    return loop->engine_text;
}

void loop_set_aio_max_batch(struct loop *loop, uint64_t batch)
{
    at_store_relaxed(&loop->aio_max_batch, batch); /* pairs with the engine's look */
}

void loop_get_stats(const struct loop *loop, struct loop_stats *ret_stats)
{
    const uint64_t *from = (const uint64_t *)&loop->stats;
    uint64_t *to = (uint64_t *)ret_stats, *end = (uint64_t *)(ret_stats + 1);

    while (to != end) {
        *to++ = at_load_relaxed(from++); /* pairs with STAT_ADD() */
    }
}
