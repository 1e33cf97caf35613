/*
 * watch.c -- fd watches and sources that are looked at in memory.
 *
 * (F1) A watch is armed once at a time; the engine reports it once; it is armed again after its
 *      callback, if it still wants to be: level semantics by one-shot arming (RACES 13).
 * (F2) Each change of what is armed takes a new generation; a report of another generation is
 *      dropped. Slots are never freed while the loop lives, so a late report finds one (RACES 10).
 * (F3) A callback may remove and free any watch, its own too: after it only the slot is looked at.
 *      A slot is reused only when no callback of its watch is under way.
 * (F4) A watch whose callback is under way is neither armed, looked at, nor called by a nested
 *      level (RACES 8).
 * (F5) `pollable` holds the sources with a poll() that are not stopped. While such a source is
 *      awake (its notification may be off) every turn looks at it, and the loop sleeps only after
 *      before_sleep().
 */
#include "loop/engine_int.h"
#include "base/mem.h"
#include <errno.h>

enum { SLOTS_PER_STEP = 64 };

HOME_LOOP
static void slots_grow(struct loop *loop)
{
    uint32_t count = loop->slot_count + SLOTS_PER_STEP;

    loop->slots = mem_realloc(loop->slots, count * sizeof(struct watch_slot *));
    for (uint32_t i = loop->slot_count; i < count; i++) {
        struct watch_slot *slot = mem_new(struct watch_slot);

        slot->loop = loop;
        slot->index = i;
        list_init(&slot->poll_link);
        list_init(&slot->hit_link);
        list_add_tail(&loop->slots_free, &slot->link);
        loop->slots[i] = slot;
    }
    loop->slot_count = count;
}

HOME_LOOP
static struct watch_slot *slot_take(struct loop *loop)
{
    struct list *item;

    if (list_is_empty(&loop->slots_free)) {
        slots_grow(loop);
    }
    item = list_pop_head(&loop->slots_free);
    list_add_tail(&loop->slots_used, item);
    return list_entry(item, struct watch_slot, link);
}

HOME_LOOP
static void slot_give_back(struct watch_slot *slot)
{
    if (slot->running == 0) { /* (F3); else its callback's return does it */
        list_remove(&slot->link);
        list_add_head(&slot->loop->slots_free, &slot->link);
    }
}

void watch_fini(struct loop *loop)
{
    for (uint32_t i = 0; i < loop->slot_count; i++) {
        mem_free(loop->slots[i]);
    }
    mem_free(loop->slots);
    loop->slots = NULL;
    loop->slot_count = 0;
}

HOME_LOOP
static void unmark_hit(struct watch_slot *slot)
{
    slot->hit = false;
    list_remove(&slot->hit_link);
}

HOME_LOOP
static void arm_if_wanted(struct watch_slot *slot)
{
    if (slot->watch != NULL && slot->events != 0 && slot->fd >= 0 && !slot->armed &&
        slot->running == 0) { /* (F1), (F4) */
        slot->armed = true;
        slot->loop->engine->watch_arm(slot->loop, slot);
    }
}

HOME_LOOP
static void disarm(struct watch_slot *slot)
{
    if (slot->armed) {
        slot->loop->engine->watch_disarm(slot->loop, slot);
        slot->armed = false;
        slot->generation++; /* (F2) */
    }
}

HOME_LOOP
static void set_events(struct watch_slot *slot, unsigned events)
{
    if (events != slot->events) {
        disarm(slot);
    }
    slot->events = events;
    if (events == 0) {
        list_remove(&slot->poll_link);
        unmark_hit(slot);
    } else if (slot->ops->poll != NULL && !list_is_linked(&slot->poll_link)) {
        list_add_tail(&slot->loop->pollable, &slot->poll_link);
    }
    arm_if_wanted(slot);
}

int loop_watch_add(struct loop_watch *watch, int fd, unsigned events,
                   const struct loop_watch_ops *ops, void *opaque)
{
    struct loop *loop = loop_self();
    struct watch_slot *slot;
    int rc;

    assert(watch->slot == NULL && (fd >= 0 || ops->poll != NULL));
    loop_assert_home(loop);
    slot = slot_take(loop);
    slot->watch = watch;
    slot->ops = ops;
    slot->opaque = opaque;
    slot->fd = fd;
    slot->engine_fd = -1;
    slot->events = events;
    slot->armed = slot->awake = slot->hit = false;
    rc = fd >= 0 ? loop->engine->watch_open(loop, slot) : 0;
    if (rc < 0) {
        slot->watch = NULL;
        slot_give_back(slot);
        return rc;
    }
    watch->slot = slot;
    set_events(slot, events);
    return 0;
}

void loop_watch_set(struct loop_watch *watch, unsigned events)
{
    loop_assert_home(watch->slot->loop);
    set_events(watch->slot, events);
}

void loop_watch_remove(struct loop_watch *watch)
{
    struct watch_slot *slot = watch->slot;

    if (slot == NULL) {
        return;
    }
    loop_assert_home(slot->loop);
    set_events(slot, 0);
    if (slot->fd >= 0) {
        slot->loop->engine->watch_close(slot->loop, slot);
    }
    slot->generation++;
    slot->watch = NULL;
    watch->slot = NULL;
    slot_give_back(slot);
}

/* Call ready(); @watch may be gone afterwards. */
HOME_LOOP
static void call_ready(struct watch_slot *slot, unsigned events)
{
    struct loop *loop = slot->loop;

    STAT_ADD(loop, watches_run, 1);
    loop_event(loop, LOOP_EVENT_WATCH, events & LOOP_POLLED ? "polled" : NULL, slot->fd);
    slot->running++;
    slot->ops->ready(slot->opaque, events);
    slot->running--;
    if (slot->watch == NULL) {
        slot_give_back(slot);
    } else {
        arm_if_wanted(slot);
    }
    ready_run(loop);
}

bool watch_report(struct loop *loop, uint32_t index, uint32_t generation, int result)
{
    struct watch_slot *slot = index < loop->slot_count ? loop->slots[index] : NULL;

    if (slot == NULL || slot->generation != generation || !slot->armed) { /* (F2) */
        return false;
    }
    slot->armed = false;
    if (result == -ECANCELED || result == -EINTR || result == -EAGAIN) {
        arm_if_wanted(slot);
        return false;
    }
    if (result < 0) { /* the kernel cannot watch it: told once, until its user sets it anew */
        result = LOOP_ERR;
        slot->events = 0;
        list_remove(&slot->poll_link);
    }
    unmark_hit(slot);
    call_ready(slot, (unsigned)result & (LOOP_IN | LOOP_OUT | LOOP_ERR | LOOP_HUP));
    return true;
}

/* ---- sources looked at in memory ---- */

HOME_LOOP
static void mark_hit(struct watch_slot *slot)
{
    if (!slot->hit) {
        slot->hit = true;
        list_add_tail(&slot->loop->hits, &slot->hit_link);
    }
}

bool watch_look(struct loop *loop)
{
    struct watch_slot *slot;

    loop->is_preparing = true;
    list_for_each(slot, &loop->pollable, poll_link) {
        if ((slot->awake || slot->fd < 0) && slot->running == 0 && slot->ops->poll(slot->opaque)) {
            mark_hit(slot);
        }
    }
    loop->is_preparing = false;
    return !list_is_empty(&loop->hits);
}

bool watch_before_sleep(struct loop *loop)
{
    struct watch_slot *slot;

    loop->is_preparing = true;
    list_for_each(slot, &loop->pollable, poll_link) {
        bool was_awake = slot->awake;

        if (slot->running != 0) { /* (F4): its callback's level will come here */
            continue;
        }
        slot->awake = false;
        if (was_awake && slot->ops->before_sleep != NULL
                ? slot->ops->before_sleep(slot->opaque)
                : (was_awake || slot->fd < 0) && slot->ops->poll(slot->opaque)) {
            mark_hit(slot);
        }
    }
    loop->is_preparing = false;
    return !list_is_empty(&loop->hits);
}

void watch_after_sleep(struct loop *loop)
{
    struct watch_slot *slot;

    loop->is_preparing = true;
    list_for_each(slot, &loop->pollable, poll_link) {
        if (!slot->awake && slot->running == 0) {
            slot->awake = true;
            if (slot->ops->after_sleep != NULL) {
                slot->ops->after_sleep(slot->opaque);
            }
        }
    }
    loop->is_preparing = false;
}

bool watch_run_hits(struct loop *loop)
{
    bool progress = false;

    while (!list_is_empty(&loop->hits)) { /* marked by watch_look(): at most once a slot and turn */
        struct watch_slot *slot = list_entry(loop->hits.next, struct watch_slot, hit_link);

        unmark_hit(slot);
        call_ready(slot, LOOP_POLLED);
        progress = true;
    }
    return progress;
}
