/*
 * loop.h -- the event loop of one thread: bottom halves, timers, fd watches, ready coroutines, I/O.
 *
 * docs/loop.md has the model and the numbered invariants. In short: one poll at the bottom of the
 * stack; whoever publishes work for a loop that prepares to wait or waits writes its eventfd; order
 * of scheduling is order of running; an idle loop sleeps.
 */
#pragma once
#include "base/err.h"
#include "base/list.h"
#include "co/co.h"
#include "base/ctx.h"
#include "os/thread.h"

enum {
    LOOPS_MAX = 64,       /* so per-loop cells are allocated once */
    LOOP_BUDGET = 64,     /* items one source handles per turn before the next gets its turn */
};

struct loop;

enum loop_engine_kind { LOOP_ENGINE_AUTO, LOOP_ENGINE_IO_URING, LOOP_ENGINE_EPOLL };

struct loop_config {
    const char *name;              /* copied; for people */
    enum loop_engine_kind engine;  /* AUTO: io_uring, else epoll and a warning; by name: or fail */
    uint64_t poll_max_ns;          /* adaptive polling: 0 = never */
    uint64_t poll_grow;            /* factor; 0 = 2 */
    uint64_t poll_shrink;          /* divisor; 0 = straight to 0 */
    bool is_hosted;                /* a host program waits for it: loop_host_fd() */
    uint64_t aio_max_batch;        /* submissions per system call; 0 = the engine's own */
};

/* A loop for the calling thread. The first one made is the main loop. */
ANY_THREAD
struct loop *loop_new(const struct loop_config *config, struct err **reterr);

/* Free the calling thread's loop. -EBUSY and a text that names it if work is left. */
HOME_LOOP
int loop_free(struct loop *loop, struct err **reterr);

/* Run until loop_stop(); what was scheduled before the stop still runs. */
ANY_THREAD
void loop_run(struct loop *loop);
ANY_THREAD
void loop_stop(struct loop *loop);

/* One iteration; @may_wait: sleep if there is nothing to do. True: something ran. For host programs
 * and tests; inside the program only loop_run() calls it. */
ANY_THREAD
bool loop_poll(struct loop *loop, bool may_wait);

/*
 * For a host program with a loop of its own. Right before it waits it calls loop_host_prepare(); it
 * waits until loop_host_fd() is readable or the deadline (LOOP_CLOCK_MONOTONIC; 0: do not wait,
 * UINT64_MAX: none) is there; then it calls loop_host_run(). It may poll the loop nested from its
 * own callbacks with loop_poll(). loop/gsource.h does all this for a GLib main loop.
 */
HOME_LOOP
int loop_host_fd(const struct loop *loop); /* the same for the loop's life, and its to close */
HOME_LOOP
uint64_t loop_host_prepare(struct loop *loop);
HOME_LOOP
bool loop_host_run(struct loop *loop); /* one iteration without waiting; true: something ran */

ANY_THREAD
struct loop *loop_self(void); /* of this thread; NULL on a foreign thread */
ANY_THREAD
struct loop *loop_main(void);
ANY_THREAD
unsigned loop_index(const struct loop *loop); /* 0 … LOOPS_MAX - 1; reused after loop_free() */
/* Of the calling thread, which runs one. For functions in which nothing comes after a yield. */
ANY_THREAD
static inline unsigned loop_index_here(void)
{
    uintptr_t index_and_one = (uintptr_t)os_tls_here(OS_TLS_LOOP_INDEX);

    assert(index_and_one != 0);
    return (unsigned)index_and_one - 1;
}
ANY_THREAD
const char *loop_name(const struct loop *loop);
ANY_THREAD
struct co_sched *loop_co_sched(struct loop *loop);
ANY_THREAD
const char *loop_engine_text(const struct loop *loop); /* "io_uring (single-issuer, …)" */

/* Asserted, and from here on the analysis believes it. */
ANY_THREAD
void loop_assert_home(const struct loop *loop) ASSERTS(ctx_home);
ANY_THREAD
void loop_assert_main(void) ASSERTS(ctx_main);

/* Change polling at run time; takes effect before the next sleep. */
ANY_THREAD
void loop_set_polling(struct loop *loop, uint64_t max_ns, uint64_t grow, uint64_t shrink);
ANY_THREAD
void loop_get_polling(const struct loop *loop, uint64_t *ret_max_ns, uint64_t *ret_grow,
                      uint64_t *ret_shrink);

/* ---- coroutines ---- */

/* A coroutine that begins on @loop, after what is ready there already. Never runs inside the
 * caller. */
ANY_THREAD
void loop_co_spawn(struct loop *loop, co_fn *fn, void *opaque, const char *name);

/* A coroutine that begins now, on the calling thread's loop; returns when it first yields. Not from
 * inside a coroutine. */
HOME_LOOP
void loop_co_start(co_fn *fn, void *opaque, const char *name);

/* Go on in @loop. */
CO_FN
void loop_co_move(struct loop *loop);

CO_FN
void loop_co_sleep(uint64_t ns);

/* A bed: where one coroutine at a time sleeps and any thread may wake it early. It outlives all of
 * them. A wake that finds nobody asleep is kept for the next sleep, which returns at once; several
 * count as one. */
struct loop_bed {
    struct co_wait wait;
    uint32_t is_woken; /* atomic */
};
ANY_THREAD
void loop_bed_init(struct loop_bed *bed);
ANY_THREAD
void loop_bed_wake(struct loop_bed *bed);
/* True: woken early. @ns UINT64_MAX: until then. */
CO_FN
bool loop_co_sleep_in(struct loop_bed *bed, uint64_t ns);

/* Wait for @wait, which the calling coroutine has initialised, until @deadline_ns
 * (LOOP_CLOCK_MONOTONIC). Its result, or -ETIMEDOUT: then the others have lost their claim. */
CO_FN
int64_t loop_co_wait_until(struct co_wait *wait, uint64_t deadline_ns);

/* ---- bottom halves ---- */

struct bh;
typedef void bh_fn(void *opaque); /* label its definition HOME_LOOP (MAIN_LOOP for the main loop) */

/* A persistent BH; scheduling it allocates nothing and takes no lock. @name: static text. */
ANY_THREAD
struct bh *bh_new(struct loop *loop, bh_fn *fn, void *opaque, const char *name);

/* Run @fn once, soon. Pending already: it keeps its place, and what the caller wrote before is
 * still seen by the callback. The caller keeps @bh alive over this call. */
ANY_THREAD
void bh_schedule(struct bh *bh);
ANY_THREAD
void bh_schedule_idle(struct bh *bh); /* not progress: runs at the loop's leisure, within 10 ms */
ANY_THREAD
void bh_cancel(struct bh *bh); /* a pending run does not happen; one under way is not waited for */
ANY_THREAD
void bh_delete(struct bh *bh); /* and cancel; the loop frees it. NULL is fine */

/* One-shot; allocates. Runs after everything scheduled to @loop before: a barrier. */
ANY_THREAD
void bh_once(struct loop *loop, bh_fn *fn, void *opaque, const char *name);

/* ---- deferred calls: one per batch ---- */

/* Runs once at the end of the current dispatch, before the loop polls or sleeps, however often
 * it was asked for: one interrupt, one submission, one wake-up per batch. Owned and kept alive
 * by its user. */
struct loop_defer {
    struct list link;
    HOME_SLOT void (*fn)(void *opaque);
    void *opaque;
};
HOME_LOOP
void loop_defer_init(struct loop_defer *defer, void (*fn)(void *opaque), void *opaque);
HOME_LOOP
void loop_defer(struct loop_defer *defer);
HOME_LOOP
void loop_defer_cancel(struct loop_defer *defer);

/* ---- timers ---- */

enum loop_clock { LOOP_CLOCK_MONOTONIC, LOOP_CLOCK_REALTIME, LOOP_CLOCK_MAX_ };

struct loop_timer {
    struct loop *loop;
    enum loop_clock clock;
    uint64_t deadline_ns;
    uint64_t order;    /* of arming: among equal deadlines the first armed fires first */
    size_t heap_index; /* SIZE_MAX: not armed */
    HOME_SLOT void (*fn)(void *opaque);
    void *opaque;
};
HOME_LOOP
void loop_timer_init(struct loop_timer *timer, enum loop_clock clock, void (*fn)(void *opaque),
                     void *opaque); /* on the calling thread's loop */
HOME_LOOP
void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns); /* re-arms if armed */
HOME_LOOP
void loop_timer_cancel(struct loop_timer *timer);
ANY_THREAD
uint64_t loop_now_ns(enum loop_clock clock);

/* ---- fd watches ---- */

/* The first four as in poll(2). LOOP_ERR and LOOP_HUP are reported asked for or not. */
enum loop_events { LOOP_IN = 1, LOOP_OUT = 4, LOOP_ERR = 8, LOOP_HUP = 16, LOOP_POLLED = 1 << 8 };

/*
 * What a watch does. Level semantics: ready is called again as long as the fd is ready. It may
 * change or remove any watch of its loop, its own included.
 *
 * A source that can also be looked at in memory (a virtqueue) sets poll: "is there work?", cheap
 * and without side effects; the loop then calls ready with LOOP_POLLED. While a loop polls, such a
 * source need not be notified through its fd: after_sleep says so, before_sleep ends it and, having
 * switched notification on, looks once more (true: there is work, do not sleep). A watch starts
 * with notification on; one that is stopped (events 0) or removed is told nothing, so its user who
 * removes it switches notification on again. poll, before_sleep and after_sleep change no watch and
 * run no loop.
 */
struct loop_watch_ops {
    HOME_SLOT void (*ready)(void *opaque, unsigned events);
    HOME_SLOT bool (*poll)(void *opaque);         /* optional */
    HOME_SLOT bool (*before_sleep)(void *opaque); /* optional, with poll */
    HOME_SLOT void (*after_sleep)(void *opaque);  /* optional, with poll */
};

/* Owned by its user, zero-initialised; its memory may be freed as soon as it is removed, also from
 * inside its own callback. */
struct watch_slot;
struct loop_watch {
    struct watch_slot *slot; /* the loop's part; NULL: not added */
};
/* On the calling thread's loop. @fd stays the caller's and must outlive the watch; -1: only polled.
 * -ENOSPC, -EBADF…: the engine's reason. */
HOME_LOOP
must_check int loop_watch_add(struct loop_watch *watch, int fd, unsigned events,
                              const struct loop_watch_ops *ops, void *opaque);
HOME_LOOP
void loop_watch_set(struct loop_watch *watch, unsigned events);
HOME_LOOP
void loop_watch_remove(struct loop_watch *watch); /* never called again after this; idempotent */

/* Wait in a coroutine until @fd is ready for one of @events. Returns the events, or -errno; the
 * deadline (0: none; LOOP_CLOCK_MONOTONIC) gives -ETIMEDOUT. */
CO_FN
int loop_co_wait_fd(int fd, unsigned events, uint64_t deadline_ns);

/* ---- counters, for tests, query-iothreads and benchmarks ---- */

struct loop_stats {
    uint64_t iterations, bhs_run, coroutines_run, watches_run, timers_run, ios_run;
    uint64_t system_calls; /* of the loop itself: waits, submissions, eventfd writes to others */
    uint64_t polls_hit, polls_missed;
};
ANY_THREAD
void loop_get_stats(const struct loop *loop, struct loop_stats *ret_stats);
