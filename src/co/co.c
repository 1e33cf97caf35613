/*
 * co.c -- a coroutine's life: new, resumed, yielding, woken, moved, done.
 *
 *            co_new              co_wake                co_resume (home)
 *   nothing ---------> WAITING ------------> READY ---------------------> RUNNING
 *                        ^  |   co_start (home)                            |  |  |
 *                        |  +--------------------------------------------->+  |  +--> DONE
 *                        +------------- co_yield -----------------------------+
 *
 * (C5) WAITING is set by the coroutine itself before it leaves its stack. That a waker on another
 *      thread sees it early is harmless: only the home's thread resumes (C2), and that thread is
 *      still busy leaving. So there is no window in which a wake comes too early once a wait is
 *      announced.
 * (C6) Whoever switches has nothing left to do afterwards (switch_int.h says why). So what belongs
 *      to leaving is done before, where that is safe: a coroutine that ends gives its stack to its
 *      thread's pool, from which only this thread takes. What is not is done by the next resume: a
 *      coroutine that moves goes through its old home's ready list once more, and co_resume() hands
 *      it on; by then its stack has been left.
 * (C7) One level: a coroutine is resumed from a loop's stack, never from another coroutine.
 *
 * Orders weaker than seq_cst: WAITING is a release store that pairs with the acquire of co_wake's
 * compare-and-swap; everything between threads is ordered by whoever announces the wait (wait.c,
 * the loop's ready list). test/explore has both.
 */
#include "co/co_int.h"
#include "co/wait_int.h"
#include "os/thread.h"
#include "sync/atomic.h"
#include "sync/mutex.h"
#include "sync/rcu.h"
#include <string.h>

enum { EACH_MAX = 4096 };
static const char *const state_names[CO_STATE_MAX_] = {"running", "waiting", "ready", "done"};

static inline uint64_t word_make(enum co_state state, const char *waker)
{
    return (uint64_t)(uintptr_t)waker << 2 | (uint64_t)state;
}

static inline enum co_state word_state(uint64_t word)
{
    return (enum co_state)(word & 3);
}

static const char *word_waker(uint64_t word)
{
    const char *waker = (const char *)(uintptr_t)(word >> 2);

    return waker ? waker : "nobody";
}

/* Keep the last waker's name, change the state. Only the coroutine's own thread calls it. */
static inline void state_set(struct co *co, enum co_state state)
{
    uint64_t word = at_load_relaxed(&co->state); /* pairs with co_wake_from() */

    at_store_release(&co->state, (word & ~(uint64_t)3) | (uint64_t)state); /* (C5) */
}

struct co *co_self(void)
{
    return os_tls_get(OS_TLS_CO);
}

static struct co *self_required(const char *what)
{
    struct co *co = co_tls_get(OS_TLS_CO);

    if (unlikely(co == NULL)) {
        panic("%s outside a coroutine", what);
    }
    return co;
}

/* ---- switching ---- */

static inline __attribute__((always_inline)) void switch_out(struct co *co, bool for_good)
{
    co_tls_set(OS_TLS_CO, NULL);
    co_note_leave(&co->note, &co->outside, for_good);
    co_context_switch(&co->here, &co->back);
    co_note_arrive(&co->note, &co->outside); /* later, resumed: perhaps on another thread */
}

/* First frame of every coroutine. */
static void co_entry(void)
{
    struct co *co = os_tls_get(OS_TLS_CO);

    co_note_arrive(&co->note, &co->outside);
    co->fn(co->opaque);
    if (co->no_yield_depth != 0) {
        panic("coroutine '%s' ends inside the no-yield scope of %s:%d", co->name,
              co->no_yield_file, co->no_yield_line);
    }
    state_set(co, CO_DONE);
    list_remove(&co->living);
    co_stack_give_back(co); /* (C6) */
    switch_out(co, true);
    unreachable();
}

/* @co is RUNNING by now: go there, come back when it leaves. */
static inline __attribute__((always_inline)) void switch_in(struct co *co)
{
    if (!list_is_linked(&co->living)) { /* it begins here, or has moved here */
        co->has_begun = true;
        list_add_tail(&co->home->living, &co->living);
    }
    co_tls_set(OS_TLS_CO, co);
    co_note_outside(&co->outside);
    co_note_leave(&co->outside, &co->note, false);
    co_context_switch(&co->back, &co->here);
    co_note_arrive(&co->outside, NULL);
}

static void must_be_outside(const char *what, const struct co *co)
{
    const struct co *inside = co_tls_get(OS_TLS_CO);

    if (unlikely(inside != NULL)) {
        panic("%s of coroutine '%s' from inside coroutine '%s'", what, co->name, inside->name);
    }
}

void co_start(struct co *co)
{
    uint64_t word = at_load_relaxed(&co->state); /* pairs with co_new(): nobody else has it yet */

    must_be_outside("start", co);
    if (unlikely(co->has_begun || word_state(word) != CO_WAITING)) {
        panic("co_start: coroutine '%s' is %s, woken by %s", co->name,
              state_names[word_state(word)], word_waker(word));
    }
    state_set(co, CO_RUNNING);
    switch_in(co);
}

/* (C6), (C2): it does not run, and its old home's thread is here. */
static void hand_over(struct co *co)
{
    struct co_sched *home = take(&co->moves_to);

    list_remove(&co->living);
    co->home = home;
    home->ready(home, co);
}

void co_resume(struct co *co)
{
    uint64_t word = at_load_relaxed(&co->state); /* pairs with the ready hook that brought it */

    must_be_outside("resume", co);
    if (unlikely(word_state(word) != CO_READY)) {
        panic("co_resume: coroutine '%s' is %s, woken by %s", co->name,
              state_names[word_state(word)], word_waker(word));
    }
    if (unlikely(co->moves_to != NULL)) {
        hand_over(co);
        return;
    }
    state_set(co, CO_RUNNING);
    switch_in(co);
}

/* ---- yielding ---- */

static inline __attribute__((always_inline)) void must_be_able_to_yield(const struct co *co)
{
    if (unlikely(co->no_yield_depth != 0)) {
        panic("coroutine '%s' yields inside the no-yield scope of %s:%d", co->name,
              co->no_yield_file, co->no_yield_line);
    }
    if (unlikely(mutex_any_held())) {
        panic("coroutine '%s' yields with a thread mutex held", co->name);
    }
    if (unlikely(rcu_is_reading())) {
        panic("coroutine '%s' yields inside an RCU read section", co->name);
    }
}

void co_yield_announce(struct co *co)
{
    must_be_able_to_yield(co);
    state_set(co, CO_WAITING);
}

void co_yield_revoke(struct co *co)
{
    uint64_t word = at_load(&co->state);

    if (word_state(word) != CO_WAITING ||
        !at_cas(&co->state, &word, (word & ~(uint64_t)3) | CO_RUNNING)) {
        panic("coroutine '%s' was woken by %s while it did not wait", co->name, word_waker(word));
    }
}

void co_yield_leave(struct co *co)
{
    switch_out(co, false);
}

const char *co_last_waker(const struct co *co)
{
    return word_waker(at_load(&co->state));
}

void co_yield(void)
{
    struct co *co = self_required("co_yield");

    must_be_able_to_yield(co);
    state_set(co, CO_WAITING);
    switch_out(co, false);
}

void co_yield_turn(void)
{
    struct co *co = self_required("co_yield_turn");

    must_be_able_to_yield(co);
    at_store_release(&co->state, word_make(CO_READY, __func__)); /* ours: nobody waits for it */
    co->home->ready(co->home, co);
    switch_out(co, false);
}

void co_move(struct co_sched *home)
{
    struct co *co = self_required("co_move");

    if (co->home == home) {
        return;
    }
    co->moves_to = home;
    co_yield_turn();
}

void co_wake_from(struct co *co, const char *caller)
{
    uint64_t word = at_load_relaxed(&co->state); /* checked by the compare-and-swap */

    if (unlikely(word_state(word) != CO_WAITING ||
                 !at_cas(&co->state, &word, word_make(CO_READY, caller)))) {
        panic("%s wakes coroutine '%s', which is %s; woken last by %s", caller, co->name,
              state_names[word_state(word)], word_waker(word));
    }
    co->home->ready(co->home, co); /* not resumed, so not gone, before this call has published it */
}

/* ---- the rest ---- */

struct co *co_new(co_fn *fn, void *opaque, struct co_sched *home, const char *name)
{
    struct co *co = co_stack_take();

    co->fn = fn;
    co->opaque = opaque;
    co->home = home;
    co->name = name;
    co->moves_to = NULL;
    co->front.local = NULL;
    co->no_yield_depth = 0;
    co->has_begun = false;
    list_init(&co->living);
    co_context_make(&co->here, co->stack, (size_t)((char *)co - (char *)co->stack), co_entry);
    at_store_release(&co->state, word_make(CO_WAITING, NULL)); /* pairs with co_wake_from() */
    return co;
}

void co_sched_init(struct co_sched *sched, void (*ready)(struct co_sched *sched, struct co *co))
{
    sched->ready = ready;
    list_init(&sched->living);
}

const char *co_sched_oldest(const struct co_sched *sched, unsigned *ret_count)
{
    const struct co *co;

    *ret_count = 0;
    list_for_each(co, &sched->living, living) {
        (*ret_count)++;
    }
    co = list_first(&sched->living, struct co, living);
    return co ? co->name : NULL;
}

void co_sched_each(const struct co_sched *sched,
                   void (*each)(const char *name, const char *state, const char *waker,
                                void *opaque),
                   void *opaque)
{
    const struct list *item = sched->living.next;

    for (unsigned n = 0; n < EACH_MAX && item != NULL && item != &sched->living; n++) {
        const struct co *co = container_of(item, struct co, living);
        uint64_t word = at_load(&co->state);

        each(co->name, state_names[word_state(word)], word_waker(word), opaque);
        item = item->next;
    }
}

struct co **co_link(struct co *co)
{
    return &co->link;
}

struct co_sched *co_home(const struct co *co)
{
    return co->home;
}

const char *co_name(const struct co *co)
{
    return co->name;
}

void co_assert_inside(void)
{
    self_required("co_assert_inside");
}

void *co_local(void)
{
    struct co *co = co_self();

    return co ? co->front.local : NULL;
}

void co_set_local(void *value)
{
    self_required("co_set_local")->front.local = value;
}

const char *co_no_yield_enter(const char *file, int line)
{
    struct co *co = co_self();

    if (co != NULL && co->no_yield_depth++ == 0) {
        co->no_yield_file = file;
        co->no_yield_line = line;
    }
    return file;
}

void co_no_yield_leave(const char **scope)
{
    struct co *co = co_self();

    if (co != NULL) {
        assert(co->no_yield_depth > 0);
        co->no_yield_depth--;
    }
}
