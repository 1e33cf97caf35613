/*
 * defer.c -- calls put off to the end of the dispatch, so that a batch causes one of each.
 *
 * (D1) A deferred call is unlinked before it runs, so it may defer itself again; that one runs in
 *      the same turn, up to ROUNDS_MAX times, then the loop looks at its other sources first.
 * (D2) A loop with deferred calls does not sleep.
 */
#include "loop/loop_int.h"

enum { ROUNDS_MAX = 4 };

void loop_defer_init(struct loop_defer *defer, void (*fn)(void *opaque), void *opaque)
{
    list_init(&defer->link);
    defer->fn = fn;
    defer->opaque = opaque;
}

void loop_defer(struct loop_defer *defer)
{
    struct loop *loop = loop_self();

    if (!list_is_linked(&defer->link)) {
        list_add_tail(&loop->defers, &defer->link);
    }
}

void loop_defer_cancel(struct loop_defer *defer)
{
    list_remove(&defer->link);
}

HOME_LOOP
static void run_round(struct loop *loop)
{
    struct list round = LIST_INIT(round), *item;

    list_splice_tail(&round, &loop->defers);
    while ((item = list_pop_head(&round)) != NULL) {
        struct loop_defer *defer = list_entry(item, struct loop_defer, link);

        defer->fn(defer->opaque);
        ready_run(loop);
    }
}

void defer_run(struct loop *loop)
{
    for (unsigned round = 0; round < ROUNDS_MAX && !list_is_empty(&loop->defers); round++) {
        run_round(loop);
    }
}
