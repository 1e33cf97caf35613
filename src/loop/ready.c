/*
 * ready.c -- coroutines that are to go on, in order of arrival.
 *
 * (Q1) The home appends to its own list; other threads push on `incoming`, as for BHs, and the home
 *      takes it whole before it appends or runs, so arrival order is running order.
 * (Q2) A turn runs what was there when it began, at most LOOP_BUDGET: two coroutines that wake each
 *      other do not keep the loop from anything else. It follows every callback.
 * (Q3) After a foreign push the coroutine may run, end, and let its loop end: only the notifier,
 *      which is never freed, is used after it.
 */
#include "loop/loop_int.h"

HOME_LOOP
static void append(struct ready_queue *queue, struct co *co)
{
    *co_link(co) = NULL;
    if (queue->head == NULL) {
        queue->head = co;
    } else {
        *co_link(queue->tail) = co;
    }
    queue->tail = co;
    queue->count++;
}

HOME_LOOP
static void take_incoming(struct ready_queue *queue)
{
    struct co *co = at_xchg(&queue->incoming, NULL), *oldest = NULL, *next;

    for (; co != NULL; co = next) {
        next = *co_link(co);
        *co_link(co) = oldest;
        oldest = co;
    }
    for (co = oldest; co != NULL; co = next) {
        next = *co_link(co);
        append(queue, co);
    }
}

ANY_THREAD
static void push(struct loop *loop, struct co *co)
{
    struct ready_queue *queue = &loop->ready;
    struct co *first = at_load_relaxed(&queue->incoming); /* checked by the compare-and-swap */
    struct loop *mine;

    do {
        *co_link(co) = first;
    } while (!at_cas(&queue->incoming, &first, co));
    if (notifier_kick(&loop->notifier)) { /* (Q3) */
        mine = loop_self();
        if (mine != NULL) {
            STAT_ADD(mine, system_calls, 1);
        }
    }
}

ANY_THREAD
static void ready_hook(struct co_sched *sched, struct co *co)
{
    struct loop *loop = container_of(sched, struct loop, sched);

    if (loop_self() != loop) {
        push(loop, co);
        return;
    }
    loop_assert_home(loop);
    if (at_load_relaxed(&loop->ready.incoming) != NULL) { /* (Q1); the exchange acquires */
        take_incoming(&loop->ready);
    }
    append(&loop->ready, co);
}

void ready_init(struct loop *loop)
{
    loop->ready = (struct ready_queue){.incoming = NULL};
    co_sched_init(&loop->sched, ready_hook);
}

bool ready_has_work(const struct loop *loop)
{
    return loop->ready.head != NULL || at_load(&loop->ready.incoming) != NULL;
}

bool ready_run(struct loop *loop)
{
    struct ready_queue *queue = &loop->ready;
    unsigned budget;

    if (at_load_relaxed(&queue->incoming) != NULL) { /* the exchange acquires */
        take_incoming(queue);
    }
    budget = min_of(queue->count, (unsigned)LOOP_BUDGET);
    if (budget == 0) {
        return false;
    }
    STAT_ADD(loop, coroutines_run, budget);
    while (budget-- > 0) {
        struct co *co = queue->head;

        queue->head = *co_link(co);
        queue->count--;
        loop_event(loop, LOOP_EVENT_CO, co_name(co), 0);
        co_resume(co);
    }
    return true;
}
