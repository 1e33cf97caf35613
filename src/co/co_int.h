/* co_int.h -- what a coroutine is made of; shared by the files of co/. */
#pragma once
#include "co/co.h"
#include "co/sanitize_int.h"
#include "co/switch_int.h"
#include "os/thread.h"

enum co_state { CO_RUNNING, CO_WAITING, CO_READY, CO_DONE, CO_STATE_MAX_ };

/*
 * Lies at the top of its own stack, so that a pooled stack is a pooled coroutine.
 *
 * `state` holds an enum co_state in its low two bits and above them the name of whoever set it
 * READY last, so that state and name change in one step and a wrong wake can name both wakers.
 */
struct co {
    struct co_front front;
    uint64_t state;          /* atomic (C1) */
    struct co_context here;  /* where to go on, while it does not run */
    struct co_context back;  /* where the loop's stack goes on, while it runs */
    struct co_sched *home;   /* (C2) */
    struct co_sched *moves_to; /* NULL, or where it asked to go on (C6) */
    struct co *link;         /* of the home while READY, of the pool while pooled */
    struct list living;      /* on the home's list; home's thread */
    NOTE_("ctx:co") co_fn *fn;
    void *opaque;
    const char *name;
    const char *no_yield_file; /* of the outermost NO_YIELD_SCOPE */
    int no_yield_line;
    unsigned no_yield_depth;
    bool has_begun;
    struct co_stack_note note;
    struct co_stack_note outside; /* of the stack that resumed it */
    void *stack;                  /* lowest usable byte */
};

CTX_ANY_BEGIN

/* As os_tls_get() and os_tls_set(), for functions that do not go on after a switch. */
static inline void *co_tls_get(enum os_tls_slot slot)
{
#ifdef EXPLORE
    return os_tls_get(slot);
#else
    return os_tls[slot];
#endif
}

static inline void co_tls_set(enum os_tls_slot slot, void *value)
{
#ifdef EXPLORE
    os_tls_set(slot, value);
#else
    os_tls[slot] = value;
#endif
}

CTX_ANY_END

/* pool.c. From the calling thread's pool, or mapped; constant fields and context are set. */
ANY_THREAD
struct co *co_stack_take(void);
/* Also while it is still in use: nobody takes it before this thread leaves it (C6). */
ANY_THREAD
void co_stack_give_back(struct co *co);
