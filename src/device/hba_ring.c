/*
 * hba_ring.c -- one run of a queue: start, turns, answers, stop.
 *
 * A turn takes at most LOOP_BUDGET chains, then the ring goes to the end of the line. What is
 * answered within one dispatch of the loop becomes visible with one update of the used index and at
 * most one interrupt (the deferred flush).
 *
 * (G1) A slot is on `free` or on `busy`, or above `slots_used` and has never been taken.
 * (G2) Nothing is popped unless the ring is RUNNING, enabled and not broken, and only then is its
 *      kick descriptor watched, polled or asked for kicks.
 * (G3) STOPPING or ABANDONED and no slot busy: the ring leaves its queue, once, through
 *      ring_idle().
 */
#include <errno.h>
#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"
#include "device/hba_ring_int.h"
#include "os/file.h"

enum {
    POLL_PERIOD_NS = 100 * 1000, /* of a ring whose front end asked to be polled */
    SPURIOUS_MAX = 1000,         /* readings without a kick: what descriptor is that? */
};

/* ---- turns -------------------------------------------------------------------------------- */

bool hba_ring_may_pop(const struct hba_ring *ring)
{
    return ring->state == HBA_RING_RUNNING && ring->enabled && !ring->broken;
}

HOME_LOOP
static bool ring_wants(const struct hba_ring *ring)
{
    const struct hba_queue_kind *kind = ring->queue->kind;

    return hba_ring_may_pop(ring) && (kind->wants == NULL || kind->wants(ring));
}

HOME_LOOP
static void ring_turn(struct hba_ring *ring)
{
    if (!hba_ring_may_pop(ring)) {
        return;
    }
    ring->now_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC);
    ring->queue->kind->turn(ring);
}

HOME_LOOP
static void more_bh(void *opaque)
{
    ring_turn(opaque);
}

HOME_LOOP
static void kick_ready(void *opaque, unsigned events)
{
    struct hba_ring *ring = opaque;

    if (!(events & LOOP_POLLED) && ring->kick_fd >= 0) {
        if (os_eventfd_clear(ring->kick_fd)) {
            ring->spurious = 0;
        } else if ((events & (LOOP_ERR | LOOP_HUP)) != 0 || ++ring->spurious > SPURIOUS_MAX) {
            hba_ring_break(ring, "its kick descriptor cannot be read; it should be an eventfd");
            return;
        }
    }
    ring_turn(ring);
}

HOME_LOOP
static bool kick_poll(void *opaque)
{
    struct hba_ring *ring = opaque;

    return ring_wants(ring) && virtq_has_work(ring->vq);
}

HOME_LOOP
static bool kick_before_sleep(void *opaque)
{
    struct hba_ring *ring = opaque;

    /* Kicks are asked for also when there is no use for one yet: this may be the last call before
     * one comes up. */
    return hba_ring_may_pop(ring) && virtq_set_kicks(ring->vq, true) && ring_wants(ring);
}

HOME_LOOP
static void kick_after_sleep(void *opaque)
{
    struct hba_ring *ring = opaque;

    if (hba_ring_may_pop(ring)) {
        virtq_set_kicks(ring->vq, false);
    }
}

static const struct loop_watch_ops kick_ops = {
    .ready = kick_ready,
    .poll = kick_poll,
    .before_sleep = kick_before_sleep,
    .after_sleep = kick_after_sleep,
};

HOME_LOOP
static void poll_timer_fired(void *opaque)
{
    struct hba_ring *ring = opaque;

    loop_timer_arm(&ring->poll_timer, loop_now_ns(LOOP_CLOCK_MONOTONIC) + POLL_PERIOD_NS);
    ring_turn(ring);
}

/* (G2) */
HOME_LOOP
static void ring_rearm(struct hba_ring *ring)
{
    bool on = hba_ring_may_pop(ring);

    if (!ring->attached) {
        return;
    }
    loop_watch_set(&ring->kick, on ? LOOP_IN : 0);
    if (ring->kick_fd < 0) {
        loop_timer_cancel(&ring->poll_timer);
        if (on) {
            loop_timer_arm(&ring->poll_timer, loop_now_ns(LOOP_CLOCK_MONOTONIC) + POLL_PERIOD_NS);
        }
    }
    if (on) {
        virtq_set_kicks(ring->vq, true);
        bh_schedule(ring->more);
    }
}

int hba_ring_attach(struct hba_ring *ring)
{
    int rc = loop_watch_add(&ring->kick, ring->kick_fd, 0, &kick_ops, ring);

    if (rc < 0) {
        return rc;
    }
    loop_timer_init(&ring->poll_timer, LOOP_CLOCK_MONOTONIC, poll_timer_fired, ring);
    ring->more = bh_new(loop_self(), more_bh, ring, "hba ring");
    ring->attached = true;
    ring_rearm(ring);
    return 0;
}

void hba_ring_detach(struct hba_ring *ring)
{
    if (ring->attached) {
        ring->attached = false;
        loop_watch_remove(&ring->kick);
        loop_timer_cancel(&ring->poll_timer);
        bh_delete(take(&ring->more));
    }
    /* Also where it never was attached: it moved while it was stopping. */
    if (ring->state != HBA_RING_ABANDONED) {
        hba_ring_flush(ring);
    }
    loop_defer_cancel(&ring->flush);
}

void hba_ring_set_enabled(struct hba_ring *ring, bool enabled)
{
    if (ring->enabled != enabled) {
        ring->enabled = enabled;
        ring_rearm(ring);
    }
}

/* ---- slots -------------------------------------------------------------------------------- */

HOME_LOOP
static struct hba_slot *slot_take(struct hba_ring *ring)
{
    struct hba_slot *slot = list_first(&ring->free, struct hba_slot, link);
    unsigned used = ring->slots_used;

    if (slot != NULL) {
        list_remove(&slot->link);
        return slot;
    }
    if (used == ring->slot_count) {
        return NULL;
    }
    slot = (void *)(ring->slots + used * ring->queue->kind->slot_bytes);
    list_init(&slot->link);
    slot->ring = ring;
    slot->iov = ring->iovs + (size_t)used * VIRTQ_IOV_MAX;
    at_store_release(&ring->slots_used, used + 1); /* pairs with hba_describe_requests_of() */
    return slot;
}

struct hba_slot *hba_ring_pop(struct hba_ring *ring)
{
    struct hba_slot *slot;
    struct err *error = NULL;
    int rc;

    if (!hba_ring_may_pop(ring)) {
        return NULL;
    }
    slot = slot_take(ring);
    if (slot == NULL) {
        if (virtq_has_work(ring->vq)) {
            hba_ring_break(ring, "%u requests are out and more are offered; the ring has %u places",
                           ring->slot_count, ring->slot_count);
        }
        return NULL;
    }
    rc = virtq_pop(ring->vq, &slot->elem, slot->iov, &error);
    if (rc != 1) {
        list_add_head(&ring->free, &slot->link);
        if (rc < 0) {
            hba_ring_break(ring, "%s", error != NULL ? error->text : "broken");
            err_free(error);
        }
        return NULL;
    }
    list_add_tail(&ring->busy, &slot->link);
    return slot;
}

void hba_slot_unpop(struct hba_slot *slot)
{
    virtq_unpop(slot->ring->vq, &slot->elem);
    list_remove(&slot->link);
    list_add_head(&slot->ring->free, &slot->link);
}

void hba_slot_show(struct hba_slot *slot, enum hba_request_state state, uint8_t target,
                   uint16_t lun, const uint8_t *cdb, uint64_t lun_serial)
{
    struct hba_view *view = &slot->view;

    /* relaxed, all of them: a report may be torn, (Q4) */
    at_store_relaxed(&view->address, (uint32_t)target << 16 | lun);
    at_store_relaxed(&view->cdb[0], be64_load(cdb));
    at_store_relaxed(&view->cdb[1], be64_load(cdb + 8));
    at_store_relaxed(&view->started_ns, slot->ring->now_ns);
    at_store_relaxed(&view->lun_serial, lun_serial);
    at_store_relaxed(&view->state, state);
}

void hba_ring_again(struct hba_ring *ring)
{
    if (hba_ring_may_pop(ring) && ring->attached) {
        bh_schedule(ring->more);
    }
}

void hba_ring_flush(struct hba_ring *ring)
{
    if (virtq_flush(ring->vq)) {
        hba_ring_call(ring);
    }
}

void hba_ring_call(struct hba_ring *ring)
{
    if (ring->call_fd >= 0 && !os_eventfd_signal(ring->call_fd)) {
        hba_ring_break(ring, "its call descriptor cannot be written; it should be an eventfd");
    }
}

HOME_LOOP
static void flush_deferred(void *opaque)
{
    hba_ring_flush(opaque);
}

HOME_LOOP
static void ring_leave(struct hba_ring *ring)
{
    hba_ring_detach(ring);
    list_remove(&ring->link);
    if (ring->queue->ring == ring) {
        ring->queue->ring = NULL;
    }
}

MAIN_LOOP
static void ring_free(struct hba_ring *ring)
{
    list_remove(&ring->hba_link);
    virtq_free(ring->vq);
    mem_free(ring->iovs);
    mem_free(ring->slots);
    mem_free(ring);
}

MAIN_LOOP
static void ring_gone_bh(void *opaque)
{
    struct hba_ring *ring = opaque;
    struct hba *hba = ring->queue->hba;

    ring_free(ring);
    co_queue_wake_all(&hba->ring_gone);
}

/* (G3) */
HOME_LOOP
static void ring_idle(struct hba_ring *ring)
{
    if (ring->state == HBA_RING_STOPPING) {
        if (ring->stopper != NULL) {
            co_wait_complete(take(&ring->stopper), 0);
        }
    } else {
        ring_leave(ring);
        bh_once(loop_main(), ring_gone_bh, ring, "hba ring gone");
    }
}

void hba_slot_complete(struct hba_slot *slot, uint32_t written)
{
    struct hba_ring *ring = slot->ring;

    assert(loop_self() == at_load_relaxed(&ring->queue->home)); /* (Q1); only we can change it */
    at_store_relaxed(&slot->view.state, HBA_REQUEST_FREE); /* (Q4) */
    if (ring->state == HBA_RING_ABANDONED) {
        virtq_drop(ring->vq, &slot->elem);
    } else {
        virtq_push(ring->vq, &slot->elem, written);
        loop_defer(&ring->flush);
    }
    list_remove(&slot->link);
    list_add_head(&ring->free, &slot->link);
    if (ring->state != HBA_RING_RUNNING && list_is_empty(&ring->busy) && !ring->settling) {
        ring_idle(ring);
    }
}

/* ---- broken rings ------------------------------------------------------------------------- */

struct break_report {
    struct hba *hba;
    unsigned index;
    char *text;
};

MAIN_LOOP
static void break_report_bh(void *opaque)
{
    struct break_report *report = opaque;

    report->hba->ops->queue_broken(report->hba->transport, report->index, report->text);
    mem_free(report->text);
    mem_free(report);
}

void hba_ring_break(struct hba_ring *ring, const char *format, ...)
{
    struct break_report *report;
    va_list args;

    if (ring->broken) {
        return;
    }
    ring->broken = true;
    ring_rearm(ring);
    if (ring->err_fd >= 0) {
        os_eventfd_signal(ring->err_fd); /* no eventfd: then nobody wants to know */
    }
    report = mem_new(struct break_report);
    report->hba = ring->queue->hba;
    report->index = ring->queue->index;
    va_start(args, format);
    report->text = str_vformat(format, args);
    va_end(args);
    bh_once(loop_main(), break_report_bh, report, "hba ring broken");
}

/* ---- start and stop ----------------------------------------------------------------------- */

MAIN_LOOP
static int ring_new(struct hba_queue *queue, const struct virtio_queue_setup *setup,
                    struct hba_ring **ret_ring, struct err **reterr)
{
    unsigned size = setup->config.size;
    struct hba_ring *ring;

    if (size == 0 || size > VIRTQ_SIZE_MAX) {
        return err_set(reterr, EINVAL, "ring %u: a size of %u, not 1 to %u", queue->index, size,
                       VIRTQ_SIZE_MAX);
    }
    ring = mem_new(struct hba_ring);
    ring->queue = queue;
    ring->slot_count = size;
    ring->slots = mem_try_alloc(size * queue->kind->slot_bytes);
    ring->iovs = mem_try_alloc(size * sizeof(struct iovec) * VIRTQ_IOV_MAX);
    ring->vq = virtq_new(queue->index);
    list_init(&ring->link);
    list_init(&ring->free);
    list_init(&ring->busy);
    list_init(&ring->parked);
    ring->sense_bytes = queue->hba->sense_bytes;
    ring->cdb_bytes = queue->hba->cdb_bytes;
    ring->kick_fd = setup->kick_fd;
    ring->call_fd = setup->call_fd;
    ring->err_fd = setup->err_fd;
    ring->enabled = setup->enabled;
    list_add_tail(&queue->hba->rings, &ring->hba_link);
    if (ring->slots == NULL || ring->iovs == NULL) {
        ring_free(ring);
        return err_set(reterr, ENOMEM, "ring %u: no memory for %u requests", queue->index, size);
    }
    *ret_ring = ring;
    return 0;
}

HOME_LOOP
static int ring_begin(struct hba_ring *ring, const struct virtq_config *config,
                      struct guest_memory *memory, struct err **reterr)
{
    struct hba_queue *queue = ring->queue;
    int rc;

    if (queue->ring != NULL) {
        return err_set(reterr, EBUSY, "ring %u is running already; GET_VRING_BASE stops it",
                       queue->index);
    }
    rc = virtq_start(ring->vq, config, memory, reterr);
    if (rc < 0) {
        return rc;
    }
    loop_defer_init(&ring->flush, flush_deferred, ring);
    rc = hba_ring_attach(ring);
    if (rc < 0) {
        virtq_stop(ring->vq);
        return err_set_errno(reterr, -rc, "ring %u: cannot watch its kick descriptor",
                             queue->index);
    }
    queue->ring = ring;
    list_add_tail(&queue->rings, &ring->link);
    return 0;
}

int hba_queue_co_start(struct hba_queue *queue, const struct virtio_queue_setup *setup,
                       struct guest_memory *memory, struct err **reterr)
{
    struct hba_ring *ring = NULL;
    int rc = ring_new(queue, setup, &ring, reterr);

    if (rc < 0) {
        return rc;
    }
    loop_assert_home(hba_queue_co_enter(queue));
    rc = ring_begin(ring, &setup->config, memory, reterr);
    loop_co_move(loop_main());
    loop_assert_main();
    if (rc < 0) {
        ring_free(ring);
    }
    return rc;
}

/* Stop taking, answer what only waits. True: nothing is out any more. */
HOME_LOOP
static bool ring_quiesce(struct hba_ring *ring, enum hba_ring_state state)
{
    ring->state = state;
    ring_rearm(ring);
    if (ring->attached) {
        bh_cancel(ring->more);
    }
    if (state == HBA_RING_STOPPING) {
        hba_ring_flush(ring); /* what was pushed in this very turn */
    }
    virtq_stop(ring->vq);
    ring->settling = true;
    ring->queue->kind->stopping(ring);
    ring->settling = false;
    return list_is_empty(&ring->busy);
}

/* At the home of its queue, before and after. */
HOME_LOOP CO_FN
static int ring_co_drain(struct hba_ring *ring)
{
    struct hba_queue *queue = ring->queue;
    struct co_wait wait;
    int rc;

    if (ring_quiesce(ring, HBA_RING_STOPPING)) {
        return 0;
    }
    co_wait_init(&wait);
    ring->stopper = &wait;
    rc = (int)co_wait_block(&wait);
    hba_queue_co_enter(queue);
    return rc;
}

int hba_queue_co_stop(struct hba_queue *queue, uint32_t *ret_base)
{
    struct hba_ring *ring;
    int rc = -ENOENT;

    loop_assert_home(hba_queue_co_enter(queue));
    ring = queue->ring;
    if (ring != NULL && ring->state == HBA_RING_RUNNING) {
        rc = ring_co_drain(ring);
        if (rc == 0) {
            *ret_base = virtq_base(ring->vq);
            ring_leave(ring);
        }
    }
    loop_co_move(loop_main());
    loop_assert_main();
    if (rc == 0) {
        ring_gone_bh(ring);
    }
    return rc;
}

void hba_queue_co_abandon(struct hba_queue *queue)
{
    struct hba_ring *ring;

    loop_assert_home(hba_queue_co_enter(queue));
    ring = queue->ring;
    if (ring == NULL) {
        /* never started, or gone */
    } else if (ring->state == HBA_RING_STOPPING && list_is_empty(&ring->busy)) {
        /* its stopper has been woken and takes it away */
    } else {
        struct co_wait *stopper = take(&ring->stopper);

        queue->ring = NULL;
        if (ring_quiesce(ring, HBA_RING_ABANDONED)) {
            ring_idle(ring);
        } else {
            hba_ring_detach(ring);
        }
        if (stopper != NULL) {
            co_wait_complete(stopper, -ECANCELED);
        }
    }
    loop_co_move(loop_main());
}
