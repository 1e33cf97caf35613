/*
 * pool.c -- threads for calls that must block.
 *
 * (P1) A call belongs to a share. At most share->max of a share's calls are queued or running; the
 *      others wait in the share, in order, and each that ends lets the next in.
 * (P2) A thread is started whenever more calls are queued than threads are free. With (P1) there
 *      are never more threads than all shares together allow, and a queued call never waits for a
 *      thread that another share's hung call holds.
 * (P3) An idle thread leaves after IDLE_NS, but the smallest number asked for (thread-pool-min)
 *      stays; no more than thread-pool-max stay idle at all.
 * (P4) A call in the queue, and the share while a call of it is under way, are kept alive by the
 *      waiting coroutine. A thread is done with both before it finishes the wait.
 * (P5) A thread that leaves joins the one that left before it; pool_stop() joins the last.
 */
#include "loop/io.h"
#include "loop/loop_int.h"
#include "base/mem.h"
#include "os/thread.h"
#include "sync/mutex.h"

enum { SHARE_COMMON_MAX = 16, THREAD_POOL_MAX_DEFAULT = 64 };
static const uint64_t idle_ns = 10ULL * 1000 * 1000 * 1000;

struct pool_call {
    struct list link; /* of the queue or of share->waiting */
    BLOCKING_SLOT pool_fn *fn;
    void *opaque;
    struct pool_share *share;
    struct co_wait *wait; /* NULL: nobody waits, and the call is on the heap */
};

struct worker {
    struct os_thread *thread;
};

static struct mutex pool_mutex = MUTEX_INIT(MUTEX_POOL);
static struct os_cond pool_work = OS_COND_INIT;  /* a call is queued, or stop */
static struct os_cond pool_empty = OS_COND_INIT; /* the last thread has left */

struct pool {
    struct list queue;
    unsigned queued;   /* on queue */
    unsigned threads;  /* started and not yet leaving */
    unsigned arriving; /* … started, or done with a call, and about to look for one */
    unsigned idle;
    struct list shares;
    uint64_t room; /* sum of all shares */
    struct os_thread *left; /* (P5) */
    bool is_stopping;
    int64_t idle_min, idle_max; /* (P3) */
};
static struct pool pool GUARDED_BY(pool_mutex) = {
    .queue = LIST_INIT(pool.queue),
    .shares = LIST_INIT(pool.shares),
    .room = SHARE_COMMON_MAX,
    .idle_max = THREAD_POOL_MAX_DEFAULT,
};

static struct pool_share common_share = {.max = SHARE_COMMON_MAX,
                                         .waiting = LIST_INIT(common_share.waiting),
                                         .link = LIST_INIT(common_share.link)};

#define HOLDS_POOL TSA_(requires_capability(pool_mutex))

/* ---- threads ---- */

/* Wait for a call. NULL: this thread is to leave. */
BLOCKING HOLDS_POOL
static struct pool_call *next_call(void)
{
    pool.arriving--;
    while (pool.queued == 0) {
        bool in_time;

        if (pool.is_stopping || (int64_t)pool.idle >= pool.idle_max) {
            return NULL;
        }
        pool.idle++;
        in_time = os_cond_wait_for(&pool_work, &pool_mutex.os, idle_ns);
        pool.idle--;
        if (!in_time && pool.queued == 0 && (int64_t)pool.threads > pool.idle_min) {
            return NULL;
        }
    }
    pool.queued--;
    return list_entry(list_pop_head(&pool.queue), struct pool_call, link);
}

ANY_THREAD HOLDS_POOL
static void worker_start(void);

ANY_THREAD HOLDS_POOL
static void enqueue(struct pool_call *call)
{
    list_add_tail(&pool.queue, &call->link);
    pool.queued++;
    if (pool.queued > pool.idle + pool.arriving) { /* (P2) */
        worker_start();
    } else {
        os_cond_signal(&pool_work);
    }
}

/* (P1) */
ANY_THREAD HOLDS_POOL
static void share_enter(struct pool_call *call)
{
    struct pool_share *share = call->share;

    if (share->running == share->max) {
        list_add_tail(&share->waiting, &call->link);
        return;
    }
    share->running++;
    enqueue(call);
}

ANY_THREAD HOLDS_POOL
static void share_leave(struct pool_share *share)
{
    struct list *next = list_pop_head(&share->waiting);

    if (next != NULL) {
        enqueue(list_entry(next, struct pool_call, link)); /* inherits the place */
    } else {
        share->running--;
    }
}

BLOCKING
static void run_call(struct pool_call *call)
{
    struct pool_share *share = call->share;
    struct co_wait *wait = call->wait;
    int64_t result = call->fn(call->opaque);

    if (wait == NULL) {
        mem_free(call);
    }
    mutex_lock(&pool_mutex);
    pool.arriving++;
    share_leave(share);
    mutex_unlock(&pool_mutex);
    if (wait != NULL) {
        co_wait_complete(wait, result); /* (P4) */
    }
}

BLOCKING
static void worker_main(void *opaque)
{
    struct worker *worker = opaque;
    struct os_thread *left_before;
    struct pool_call *call;

    mutex_lock(&pool_mutex);
    while ((call = next_call()) != NULL) {
        mutex_unlock(&pool_mutex);
        run_call(call);
        mutex_lock(&pool_mutex);
    }
    left_before = pool.left; /* (P5) */
    pool.left = worker->thread;
    pool.threads--;
    if (pool.threads == 0) {
        os_cond_broadcast(&pool_empty);
    }
    mutex_unlock(&pool_mutex);
    mem_free(worker);
    if (left_before != NULL) {
        os_thread_join(left_before);
    }
}

static void worker_start(void)
{
    struct worker *worker = mem_new(struct worker);

    pool.threads++;
    pool.arriving++;
    assert(pool.threads <= pool.room); /* (P2) */
    worker->thread = os_thread_start("pool", worker_main, worker); /* needs the mutex first */
}

/* ---- callers ---- */

void pool_share_init(struct pool_share *share, unsigned max)
{
    assert(max > 0);
    share->max = max;
    share->running = 0;
    list_init(&share->waiting);
    list_init(&share->link);
    mutex_lock(&pool_mutex);
    pool.room += max;
    list_add_tail(&pool.shares, &share->link);
    mutex_unlock(&pool_mutex);
}

void pool_share_fini(struct pool_share *share)
{
    mutex_lock(&pool_mutex);
    assert(share->running == 0 && list_is_empty(&share->waiting));
    pool.room -= share->max;
    list_remove(&share->link);
    mutex_unlock(&pool_mutex);
}

int64_t pool_co_call(struct pool_share *share, pool_fn *fn, void *opaque)
{
    struct co_wait wait;
    struct pool_call call = {.fn = fn, .opaque = opaque, .wait = &wait,
                             .share = share ? share : &common_share};

    co_wait_init(&wait);
    mutex_lock(&pool_mutex);
    share_enter(&call);
    mutex_unlock(&pool_mutex);
    return co_wait_block(&wait);
}

void pool_run(pool_fn *fn, void *opaque)
{
    struct pool_call *call = mem_new(struct pool_call);

    call->fn = fn;
    call->opaque = opaque;
    call->share = &common_share;
    mutex_lock(&pool_mutex);
    share_enter(call);
    mutex_unlock(&pool_mutex);
}

void pool_limits_add(int64_t min, int64_t max)
{
    mutex_lock(&pool_mutex);
    pool.idle_min += min;
    pool.idle_max += max;
    mutex_unlock(&pool_mutex);
}

void pool_stop(void)
{
    struct os_thread *last;

    mutex_lock(&pool_mutex);
    pool.is_stopping = true;
    os_cond_broadcast(&pool_work);
    while (pool.threads > 0) {
        os_cond_wait(&pool_empty, &pool_mutex.os);
    }
    last = take(&pool.left);
    pool.is_stopping = false; /* the next call starts it again */
    mutex_unlock(&pool_mutex);
    if (last != NULL) {
        os_thread_join(last);
    }
}
