/* loop_int.h -- what a loop is made of; shared by the files of loop/. */
#pragma once
#include "loop/loop.h"
#include "loop/notify_int.h"
#include "os/ring.h"
#include "sync/atomic.h"

struct engine_ops;

/* bh.c */
struct bh_queue {
    struct bh *incoming; /* atomic: newest first; any thread pushes, the home takes it whole */
    uint32_t living;     /* atomic: persistent BHs that exist */
    /* home only, from here */
    struct bh *head, *tail; /* taken, in order of scheduling */
    uint64_t order_last;
    struct bh *idle; /* taken, scheduled idle */
    uint64_t idle_deadline_ns;
};

/* ready.c */
struct ready_queue {
    struct co *incoming; /* atomic: newest first; other threads push */
    struct co *head, *tail; /* home only */
    unsigned count;
};

struct timer_heap {
    struct loop_timer **items;
    size_t count, capacity;
    uint64_t order_last;
};

/* watch.c. A slot outlives its watch, so a late completion finds a generation that differs, never
 * freed memory (RACES 10). */
struct watch_slot {
    struct loop *loop;
    struct loop_watch *watch; /* NULL: removed */
    const struct loop_watch_ops *ops;
    void *opaque;
    int fd;
    int engine_fd; /* epoll: a duplicate, where @fd is watched already; else -1 */
    bool engine_is_set;         /* epoll: the kernel watches it … */
    unsigned engine_events;     /* … for these, … */
    uint32_t engine_generation; /* … and reports it under this */
    unsigned events;
    uint32_t index, generation;
    unsigned running;      /* levels of its ready() under way */
    bool armed;            /* the engine will report it once */
    bool awake;            /* after_sleep() was called last, not before_sleep() */
    bool hit;              /* on loop->hits */
    struct list poll_link; /* on loop->pollable while events != 0 and there is a poll() */
    struct list hit_link;
    struct list link;      /* on loop->slots_used or loop->slots_free */
};

/* dump.c: the last things a loop did. Written by the home, read by whoever dumps. */
enum { LOOP_RECENT_EVENTS = 64 };
enum loop_event_kind { LOOP_EVENT_NONE, LOOP_EVENT_BH, LOOP_EVENT_CO, LOOP_EVENT_WATCH,
                       LOOP_EVENT_TIMER, LOOP_EVENT_IO, LOOP_EVENT_SLEEP, LOOP_EVENT_WOKEN,
                       LOOP_EVENT_MAX_ };
struct loop_event {
    const char *name; /* static text, or NULL */
    int64_t number;   /* fd, result, nanoseconds: what the kind has */
    uint32_t kind;
};
struct recent_events {
    struct loop_event events[LOOP_RECENT_EVENTS];
    uint32_t count; /* atomic: written so far */
};

struct poll_state {
    uint64_t max_ns, grow, shrink; /* atomic: set by any thread */
    uint64_t now_ns;               /* home: what the next spin may take */
};

struct loop {
    /* Written by other threads. Of a freed loop, late notifiers may still read and write
     * `notifier`: a struct loop and its eventfd are reused, never freed (RACES 6). */
    struct notifier notifier __attribute__((aligned(64)));
    struct bh_queue bhs __attribute__((aligned(64)));
    struct ready_queue ready __attribute__((aligned(64)));
    struct poll_state polling;
    uint64_t aio_max_batch; /* atomic */

    /* Constant while the loop lives. */
    unsigned index __attribute__((aligned(64)));
    char name[32];
    const struct engine_ops *engine;
    void *engine_state;
    const char *engine_flags; /* static text */
    char engine_text[96];
    bool registered_rcu;
    struct bh *stop_bh;

    /* Home only. */
    struct co_sched sched;
    bool is_stopped;
    bool is_hosted;    /* constant */
    bool host_waits;   /* host.c (O1) */
    bool is_preparing; /* inside poll(), before_sleep(), after_sleep(): no nested poll */
    struct timer_heap timers[LOOP_CLOCK_MAX_];
    struct list defers;
    struct watch_slot **slots;
    uint32_t slot_count;
    struct list slots_used, slots_free;
    struct list pollable, hits;
    struct recent_events recent;
    struct loop_stats stats; /* plain stores by the home, relaxed loads by others */
};

#ifdef EXPLORE
#define STAT_ADD(loop, counter, n) ((loop)->stats.counter += (n)) /* no switch points */
#else
#define STAT_ADD(loop, counter, n)                                                                 \
    at_store_relaxed(&(loop)->stats.counter, (loop)->stats.counter + (n)) /* loop_get_stats() */
#endif

/* A new one takes the place of the oldest. In the explorer: no switch points. */
HOME_LOOP
static inline void loop_event(struct loop *loop, enum loop_event_kind kind, const char *name,
                              int64_t number)
{
#ifndef EXPLORE
    uint32_t count = loop->recent.count;
    struct loop_event *event = &loop->recent.events[count % LOOP_RECENT_EVENTS];

    at_store_relaxed(&event->name, name);              /* dump.c (X1), as the next three */
    at_store_relaxed(&event->number, number);          /* pairs with dump_events() */
    at_store_relaxed(&event->kind, (uint32_t)kind);    /* pairs with dump_events() */
    at_store_relaxed(&loop->recent.count, count + 1);  /* pairs with dump_events() */
#endif
}

/* registry.c */
ANY_THREAD
struct loop *registry_at(unsigned index); /* in use now, or NULL; for dump.c */
ANY_THREAD
struct loop *registry_take(struct err **reterr); /* a slot with an index and an eventfd */
ANY_THREAD
void registry_give_back(struct loop *loop);

/* bh.c */
ANY_THREAD
void bh_queue_init(struct bh_queue *queue);
HOME_LOOP
bool bh_queue_has_work(struct bh_queue *queue); /* that may not wait */
HOME_LOOP
uint64_t bh_queue_timeout_ns(const struct bh_queue *queue, uint64_t now_ns); /* of idle ones */
HOME_LOOP
bool bh_queue_run(struct loop *loop); /* true: one that is not idle ran */
HOME_LOOP
bool bh_queue_is_empty(const struct bh_queue *queue);

/* ready.c */
ANY_THREAD
void ready_init(struct loop *loop);
HOME_LOOP
bool ready_has_work(const struct loop *loop);
HOME_LOOP
bool ready_run(struct loop *loop);

/* timer.c */
HOME_LOOP
bool timer_run(struct loop *loop);
HOME_LOOP
size_t timer_count(const struct loop *loop); /* armed */
HOME_LOOP
uint64_t timer_timeout_ns(const struct loop *loop, uint64_t now_ns); /* UINT64_MAX: none armed */

/* defer.c */
HOME_LOOP
void defer_run(struct loop *loop);

/* watch.c */
HOME_LOOP
void watch_fini(struct loop *loop);
/* @result: poll(2) events or -errno. False: stale, nothing called. */
HOME_LOOP
bool watch_report(struct loop *loop, uint32_t index, uint32_t generation, int result);
/* Ask every source that may have work; true: something is marked for watch_run_hits(). */
HOME_LOOP
bool watch_look(struct loop *loop);
HOME_LOOP
bool watch_before_sleep(struct loop *loop);
HOME_LOOP
void watch_after_sleep(struct loop *loop);
HOME_LOOP
bool watch_run_hits(struct loop *loop);

/* poll.c */
HOME_LOOP
bool poll_spin(struct loop *loop); /* true: there is something to do */
HOME_LOOP
void poll_adapt(struct loop *loop, uint64_t waited_ns);

/* host.c */
HOME_LOOP
void host_leave(struct loop *loop);
HOME_LOOP
void host_renew(struct loop *loop); /* at the end of any level */

/* loop.c */
HOME_LOOP
uint64_t loop_timeout_ns(const struct loop *loop); /* UINT64_MAX: nothing to wait for */
HOME_LOOP
bool loop_has_work(struct loop *loop);
ANY_THREAD
void loop_set_aio_max_batch(struct loop *loop, uint64_t batch);

/* pool.c */
MAIN_LOOP
void pool_limits_add(int64_t min, int64_t max); /* of one more I/O thread; negative: one less */
