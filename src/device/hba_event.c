/*
 * hba_event.c -- the event queue: what the adapter tells the guest unasked (virtio 1.3, 5.6.6.3).
 *
 * Buffers stay on the ring until there is an event to put into one: so the ring is not "work", and
 * an idle loop does not spin over it.
 *
 * (E1) Events are delivered in order. One that finds no buffer waits, and the next one delivered
 *      says EVENTS_MISSED; the list is bounded, and what does not fit is missed indeed.
 * (E2) While no ring runs but one has run since the last reset (the guest is stopped), events wait
 *      too. Before that, nobody has looked at the adapter yet, and nobody misses anything.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "device/hba_int.h"

HOME_LOOP
static bool event_wants(const struct hba_ring *ring)
{
    const struct hba *hba = ring->queue->hba;

    return hba->events_missed || !list_is_empty(&hba->events);
}

HOME_LOOP
static void event_write(struct hba_slot *slot, const struct hba_event *event, bool missed)
{
    uint8_t raw[sizeof(struct virtio_scsi_event)] = {0};
    uint32_t type = event != NULL ? event->event : VIRTIO_SCSI_T_NO_EVENT;

    le32_store(raw, type | (missed ? VIRTIO_SCSI_T_EVENTS_MISSED : 0));
    if (event != NULL) {
        hba_address_format(event->target, event->lun,
                           raw + offsetof(struct virtio_scsi_event, lun));
        le32_store(raw + offsetof(struct virtio_scsi_event, reason), event->reason);
    }
    virtq_elem_write(slot->ring->vq, &slot->elem, 0, raw, sizeof(raw));
    hba_slot_complete(slot, sizeof(raw));
}

HOME_LOOP
static void event_turn(struct hba_ring *ring)
{
    struct hba *hba = ring->queue->hba;

    hba->events_heard = true;
    while (event_wants(ring)) {
        struct hba_slot *slot = hba_ring_pop(ring);
        struct hba_event *event;

        if (slot == NULL) {
            return;
        }
        if (slot->elem.in_bytes < sizeof(struct virtio_scsi_event)) {
            uint32_t in_bytes = slot->elem.in_bytes;

            hba_slot_unpop(slot);
            hba_ring_break(ring, "an event buffer has %u writable bytes; an event takes %zu",
                           in_bytes, sizeof(struct virtio_scsi_event));
            return;
        }
        event = list_first(&hba->events, struct hba_event, link);
        if (event != NULL) {
            list_remove(&event->link);
            hba->event_count--;
        }
        event_write(slot, event, hba->events_missed);
        hba->events_missed = false;
        mem_free(event);
    }
}

HOME_LOOP
static void event_step(struct hba_queue *queue, void *opaque)
{
    struct hba_event *event = opaque;
    struct hba *hba = queue->hba;
    struct hba_ring *ring = queue->ring;

    if (!hba->events_heard || hba->event_count == HBA_EVENTS_MAX) {
        hba->events_missed |= hba->events_heard; /* (E1), (E2) */
        mem_free(event);
    } else {
        list_add_tail(&hba->events, &event->link);
        hba->event_count++;
    }
    if (ring != NULL && hba_ring_may_pop(ring)) {
        event_turn(ring);
    }
    hba->events_missed |= !list_is_empty(&hba->events);
}

void hba_event_send(struct hba *hba, uint32_t event, uint8_t target, uint16_t lun, uint32_t reason)
{
    struct hba_event *copy = mem_new(struct hba_event);

    TRACE(hba_event, "%s event %u target %u lun %u reason %u", hba->id, event, target, lun, reason);
    copy->event = event;
    copy->target = target;
    copy->lun = lun;
    copy->reason = reason;
    hba_queue_post(&hba->queues[VIRTIO_SCSI_EVENT_QUEUE], event_step, copy);
}

void hba_events_forget(struct hba *hba)
{
    struct list *item;

    while ((item = list_pop_head(&hba->events)) != NULL) {
        mem_free(list_entry(item, struct hba_event, link));
    }
    hba->event_count = 0;
    hba->events_missed = false;
    hba->events_heard = false;
}

HOME_LOOP
static void event_stopping(struct hba_ring *ring)
{
    (void)ring; /* buffers are still on the ring, and events wait for the next one */
}

const struct hba_queue_kind hba_event_kind = {
    .name = "event",
    .slot_bytes = sizeof(struct hba_slot),
    .turn = event_turn,
    .wants = event_wants,
    .stopping = event_stopping,
};
