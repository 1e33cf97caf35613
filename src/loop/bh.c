/*
 * bh.c -- bottom halves.
 *
 * `flags` is the only word of a BH that several threads write. PENDING: it is on its queue's
 * incoming, taken or idle list, and whoever sets it puts it there. SCHEDULED: call the callback at
 * dequeue. PROMPT: not at leisure. DELETED: free it at dequeue. ONCE: free it after its run.
 *
 * (B1) Only the home takes `incoming`, and takes it whole; it appends it in reverse to the taken
 *      list. So the order of scheduling is the order of running, and a one-shot BH is a barrier.
 * (B2) Each level of running, nested or not, pops the head until it has passed the last one that
 *      was there on entry (`order`). What is scheduled meanwhile waits for the next level or turn.
 * (B3) At dequeue one atomic step clears PENDING, SCHEDULED and PROMPT and tells what they were,
 *      before the callback: a schedule that comes after it queues the BH again, one that came
 *      before it is in the flags, and what its caller wrote is seen by this callback.
 * (B4) Scheduling does that step even when the BH is PENDING already: it orders the caller's
 *      writes.
 * (B5) After a push the BH may run and be freed: the pusher uses only the loop (never freed) after
 *      it.
 * (B6) A BH is freed only by the home, at dequeue. PENDING it is on exactly one list, so it is
 *      freed once.
 * (B7) An idle BH is no reason to stay awake or to call a turn progress; idle ones run together,
 *      IDLE_NS after the first was taken. When one becomes PROMPT or DELETED meanwhile it joins the
 *      taken list.
 */
#include "loop/loop_int.h"
#include "base/mem.h"
#include "os/time.h"

enum { BH_PENDING = 1, BH_SCHEDULED = 2, BH_PROMPT = 4, BH_DELETED = 8, BH_ONCE = 16 };
enum { IDLE_NS = 10 * 1000 * 1000 };

struct bh {
    struct bh *next;
    uint32_t flags; /* atomic */
    struct loop *loop;
    NOTE_("ctx:home") bh_fn *fn; /* set by any thread, called by the home */
    void *opaque;
    const char *name;
    uint64_t order; /* home; on the taken list */
};

ANY_THREAD
static struct bh *bh_make(struct loop *loop, bh_fn *fn, void *opaque, const char *name,
                          uint32_t flags)
{
    struct bh *bh = mem_new(struct bh);

    bh->loop = loop;
    bh->fn = fn;
    bh->opaque = opaque;
    bh->name = name;
    bh->flags = flags;
    return bh;
}

struct bh *bh_new(struct loop *loop, bh_fn *fn, void *opaque, const char *name)
{
    at_add(&loop->bhs.living, 1);
    return bh_make(loop, fn, opaque, name, 0);
}

ANY_THREAD
static void queue_push(struct bh_queue *queue, struct bh *bh)
{
    struct bh *first = at_load_relaxed(&queue->incoming); /* checked by the compare-and-swap */

    do {
        bh->next = first;
    } while (!at_cas(&queue->incoming, &first, bh)); /* (B5) */
}

ANY_THREAD
static void kick(struct loop *loop)
{
    struct loop *mine;

    if (notifier_kick(&loop->notifier)) {
        mine = loop_self();
        if (mine != NULL) {
            STAT_ADD(mine, system_calls, 1);
        }
    }
}

/* Set @flags and queue @bh unless it is queued; @wakes: flags that are news for a sleeping home. */
ANY_THREAD
static void bh_set(struct bh *bh, uint32_t flags, uint32_t wakes)
{
    struct loop *loop = bh->loop;
    uint32_t before = at_or(&bh->flags, flags | BH_PENDING); /* (B4) */

    if (unlikely(before & BH_DELETED)) {
        panic("bottom half '%s' used after bh_delete()", bh->name);
    }
    if ((before & BH_PENDING) == 0) {
        queue_push(&loop->bhs, bh);
    } else if ((before & wakes) == wakes) {
        return; /* whoever made it so has told the home, or is about to */
    }
    kick(loop);
}

void bh_schedule(struct bh *bh)
{
    bh_set(bh, BH_SCHEDULED | BH_PROMPT, BH_PROMPT);
}

void bh_schedule_idle(struct bh *bh)
{
    bh_set(bh, BH_SCHEDULED, 0);
}

void bh_cancel(struct bh *bh)
{
    at_and(&bh->flags, ~(uint32_t)BH_SCHEDULED); /* stays queued, keeps its place, is passed over */
}

void bh_delete(struct bh *bh)
{
    if (bh != NULL) {
        at_sub(&bh->loop->bhs.living, 1);
        bh_set(bh, BH_DELETED, BH_DELETED);
    }
}

void bh_once(struct loop *loop, bh_fn *fn, void *opaque, const char *name)
{
    struct bh *bh = bh_make(loop, fn, opaque, name,
                            BH_PENDING | BH_SCHEDULED | BH_PROMPT | BH_ONCE);

    queue_push(&loop->bhs, bh);
    kick(loop);
}

/* ---- the home's side ---- */

void bh_queue_init(struct bh_queue *queue)
{
    *queue = (struct bh_queue){.incoming = NULL};
}

HOME_LOOP
static void taken_append(struct bh_queue *queue, struct bh *bh)
{
    bh->order = ++queue->order_last;
    bh->next = NULL;
    if (queue->head == NULL) {
        queue->head = bh;
    } else {
        queue->tail->next = bh;
    }
    queue->tail = bh;
}

HOME_LOOP
static void idle_append(struct bh_queue *queue, struct bh *bh)
{
    struct bh **end = &queue->idle;

    if (queue->idle == NULL) {
        queue->idle_deadline_ns = os_now_monotonic_ns() + IDLE_NS;
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    bh->next = NULL;
    *end = bh;
}

/* Cancelled ones count as prompt: they are only dequeued. */
HOME_LOOP
static bool is_idle(const struct bh *bh)
{
    return (at_load(&bh->flags) & (BH_SCHEDULED | BH_PROMPT | BH_DELETED)) == BH_SCHEDULED;
}

/* (B1) */
HOME_LOOP
static void take_incoming(struct bh_queue *queue)
{
    struct bh *bh = at_xchg(&queue->incoming, NULL), *oldest = NULL, *next;

    for (; bh != NULL; bh = next) {
        next = bh->next;
        bh->next = oldest;
        oldest = bh;
    }
    for (bh = oldest; bh != NULL; bh = next) {
        next = bh->next;
        if (is_idle(bh)) {
            idle_append(queue, bh);
        } else {
            taken_append(queue, bh);
        }
    }
}

/* (B7): idle ones that are no longer, or all when @is_due. */
HOME_LOOP
static void take_idle(struct bh_queue *queue, bool is_due)
{
    struct bh **link = &queue->idle;

    while (*link != NULL) {
        struct bh *bh = *link;

        if (is_due || !is_idle(bh)) {
            *link = bh->next;
            taken_append(queue, bh);
        } else {
            link = &bh->next;
        }
    }
}

bool bh_queue_has_work(struct bh_queue *queue)
{
    if (at_load(&queue->incoming) != NULL) {
        take_incoming(queue); /* they may all be idle ones, which are no reason to stay awake */
    }
    if (unlikely(queue->idle != NULL)) {
        take_idle(queue, false);
    }
    return queue->head != NULL;
}

uint64_t bh_queue_timeout_ns(const struct bh_queue *queue, uint64_t now_ns)
{
    if (queue->idle == NULL) {
        return UINT64_MAX;
    }
    return queue->idle_deadline_ns > now_ns ? queue->idle_deadline_ns - now_ns : 0;
}

/* Dequeue @bh: run, free, or pass over. True: it ran and was not idle. */
HOME_LOOP
static bool bh_run(struct loop *loop, struct bh *bh)
{
    bh_fn *fn = bh->fn;
    void *opaque = bh->opaque;
    const char *name = bh->name;
    /* (B3) */
    uint32_t before = at_and(&bh->flags, ~(uint32_t)(BH_PENDING | BH_SCHEDULED | BH_PROMPT));

    if (before & (BH_DELETED | BH_ONCE)) {
        mem_free(bh); /* (B6) */
    }
    if ((before & BH_DELETED) != 0 || (before & BH_SCHEDULED) == 0) {
        return false;
    }
    STAT_ADD(loop, bhs_run, 1);
    loop_event(loop, LOOP_EVENT_BH, name, 0);
    fn(opaque);
    ready_run(loop);
    return (before & BH_PROMPT) != 0;
}

bool bh_queue_run(struct loop *loop)
{
    struct bh_queue *queue = &loop->bhs;
    uint64_t last;
    bool progress = false;

    bh_queue_has_work(queue);
    if (unlikely(queue->idle != NULL) && os_now_monotonic_ns() >= queue->idle_deadline_ns) {
        take_idle(queue, true);
    }
    last = queue->order_last;
    for (unsigned n = 0; n < LOOP_BUDGET; n++) {
        struct bh *bh = queue->head;

        if (bh == NULL || bh->order > last) { /* (B2) */
            break;
        }
        queue->head = bh->next;
        progress = bh_run(loop, bh) || progress;
    }
    return progress;
}

bool bh_queue_is_empty(const struct bh_queue *queue)
{
    return at_load(&queue->incoming) == NULL && queue->head == NULL && queue->idle == NULL;
}
