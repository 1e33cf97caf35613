/*
 * co.h -- coroutines: stacks of their own, switched by hand, resumed by the loop they live in.
 *
 * A coroutine waits by yielding. Who wakes it never runs it: co_wake() hands it to its home's
 * `ready` hook (a loop's ready list) and the loop runs it after the current callback, in order of
 * arrival.
 *
 * (C1) A coroutine is RUNNING, WAITING, READY or DONE; only co_wake() moves WAITING to READY, only
 *      the home's thread moves READY to RUNNING. Any other wake aborts and names both wakers.
 * (C2) It runs only on the thread of its home. The home changes only by co_move(), on the old one's
 *      thread.
 * (C3) Its stack comes from the thread's pool and goes back to that of the thread where it ended; a
 *      pool is bounded, what is beyond is unmapped. Below each stack lies a guard page.
 * (C4) No yield with a thread mutex held, inside an RCU read section or a NO_YIELD_SCOPE.
 *
 * A thread-local variable must not be cached over a yield in a coroutine that may move: read
 * os_tls_get() again afterwards.
 */
#pragma once
#include "base/ctx.h"
#include "base/list.h"
#include "base/macros.h"
#include "os/thread.h"

enum {
    /* Usable; the guard page comes on top. A request goes through up to 256 nodes, and that fits
     * into half of it (tool/stackcheck.py); pages that are never touched cost nothing. */
    CO_STACK_BYTES = 512 << 10,
    CO_POOL_STACKS_MAX = 128, /* kept per thread; 64 queues x 256 requests must not exhaust maps */
};

struct co;

/* Where a coroutine lives; a loop embeds one. */
struct co_sched {
    /* @co is READY: run it soon on the home's thread by co_resume(). */
    ANY_SLOT void (*ready)(struct co_sched *sched, struct co *co);
    struct list living; /* home's thread: coroutines that have begun here or moved here */
};
ANY_THREAD
void co_sched_init(struct co_sched *sched, void (*ready)(struct co_sched *sched, struct co *co));
/* Name of the oldest coroutine that lives here, NULL: none. *@ret_count: how many. */
HOME_LOOP
const char *co_sched_oldest(const struct co_sched *sched, unsigned *ret_count);

typedef void co_fn(void *opaque); /* label its definition CO_FN */

/* A new coroutine in state WAITING that co_start() or co_wake() begins. Its stack comes from the
 * calling thread's pool, so no allocation in steady state. @name: for people, static text. Never
 * NULL: panics when no stack can be mapped (the number of requests is bounded long before). */
ANY_THREAD
struct co *co_new(co_fn *fn, void *opaque, struct co_sched *home, const char *name);

/* Begin @co at once, on the stack of the home's loop (not from inside a coroutine); returns when it
 * first yields or ends. Saves the trip over the ready list for a request just popped. */
HOME_LOOP
void co_start(struct co *co);

/* Continue a READY coroutine; only a co_sched's owner calls this, and not from inside a
 * coroutine. */
HOME_LOOP
void co_resume(struct co *co);

/* One pointer for whoever keeps @co in a list: its home, while it is READY. */
ANY_THREAD
struct co **co_link(struct co *co);

/* Give the thread back until somebody wakes me. For waits where every waker runs on my own home;
 * else use a co_wait. */
CO_FN
void co_yield(void);

/* WAITING -> READY. Aborts, naming this and the former caller, when @co is not WAITING. */
#define co_wake(co) co_wake_from(co, __func__)
ANY_THREAD
void co_wake_from(struct co *co, const char *caller);

/* Let the others on my loop run first, then go on. */
CO_FN
void co_yield_turn(void);

/* Go on in another home. No-op when it is mine already. */
CO_FN
void co_move(struct co_sched *home);

/* For dumps of a home that stands still: at most some thousand of them. */
ANY_THREAD
void co_sched_each(const struct co_sched *sched,
                   NOTE_("ctx:any")
                   void (*each)(const char *name, const char *state, const char *waker,
                                void *opaque),
                   void *opaque);

ANY_THREAD
struct co *co_self(void); /* NULL outside a coroutine */
ANY_THREAD
struct co_sched *co_home(const struct co *co);
ANY_THREAD
const char *co_name(const struct co *co);

/* "I am inside a coroutine": asserted, and from here on the analysis believes it. For callbacks
 * whose label cannot be seen through a pointer. */
ANY_THREAD
void co_assert_inside(void) ASSERTS(ctx_co);

/* One pointer that travels with the coroutine: the token it works under (block/token.h). */
ANY_THREAD
void *co_local(void);
ANY_THREAD
void co_set_local(void *value);

/* What every struct co begins with: only so that the next function can be inline. */
struct co_front {
    void *local;
};
/* Where the calling coroutine keeps it, NULL outside one. For functions in which nothing comes
 * after a yield. */
ANY_THREAD
static inline void **co_local_here(void)
{
    struct co_front *front = os_tls_here(OS_TLS_CO);

    return front != NULL ? &front->local : NULL;
}

/*
 * A wait that several parties may end: completion, time-out, cancel. Exactly one claims it, sets
 * the result and wakes. The object lives on the waiter's stack; a party that lost its claim must
 * not touch it again, so each party needs a way to be told to forget it (a timer is disarmed, an
 * entry unlinked) before the waiter leaves -- or claims through memory that outlives the waiter.
 */
struct co_wait {
    struct co *co;
    uint32_t state; /* atomic; co_wait.c */
    int64_t result;
};

CO_FN
void co_wait_init(struct co_wait *wait); /* binds the calling coroutine */
ANY_THREAD
bool co_wait_claim(struct co_wait *wait); /* true: you, and only you, must finish it */
ANY_THREAD
void co_wait_finish(struct co_wait *wait, int64_t result); /* the winner; @wait may be gone after */

/* For one that lasts: other parties know it between two waits, and may try to end it then. Closed:
 * nobody waits, every claim fails. Renewed: as initialised, for the calling coroutine; the former
 * wait is over. */
ANY_THREAD
void co_wait_init_closed(struct co_wait *wait);
CO_FN
void co_wait_renew(struct co_wait *wait);
CO_FN
int64_t co_wait_block(struct co_wait *wait); /* returns the result; at once if already finished */

/* Claim and finish in one; false: somebody else did. */
ANY_THREAD
bool co_wait_complete(struct co_wait *wait, int64_t result);

/* A stretch that must not yield: co_yield() inside aborts and names this line. Debug and
 * release. */
#define NO_YIELD_SCOPE()                                                                           \
    __attribute__((cleanup(co_no_yield_leave), unused)) const char *no_yield_scope_ =              \
        co_no_yield_enter(__FILE__, __LINE__)
ANY_THREAD
const char *co_no_yield_enter(const char *file, int line);
ANY_THREAD
void co_no_yield_leave(const char **scope);

/* For teardown of a thread: unmap its pooled stacks. */
ANY_THREAD
void co_pool_release(void);
