/*
 * hba_park.c -- requests of a LUN whose gate is closed.
 *
 * (P1) A parked request is busy on its ring and on ring->parked, in order of arrival, and holds no
 *      token. While one of a LUN is there, every later one of that LUN on that ring goes behind it.
 * (P2) A ring parks at most a quarter of its places, whatever the LUN; what comes beyond is
 *      answered TASK SET FULL, so that the LUNs that are not drained find places.
 * (P3) A section's end opens the gate and then calls hba_lun_restart() (block/drain.c, D4), which
 *      raises one token per queue and tells its home. So a request either sees the gate open or is
 *      on the list before its home is told: none is left behind. What restarts does so under the
 *      token, whatever the gate is by then.
 * (P4) A LUN that goes is unpublished first; the round that follows finds all that will ever be
 *      parked on it.
 */
#include "base/mem.h"
#include "device/hba_int.h"

bool hba_ring_has_parked(const struct hba_ring *ring, const struct hba_lun *lun)
{
    const struct hba_request *request;

    if (likely(list_is_empty(&ring->parked))) {
        return false;
    }
    list_for_each(request, &ring->parked, park_link) {
        if (request->lun == lun) {
            return true;
        }
    }
    return false;
}

void hba_request_park(struct hba_request *request)
{
    struct hba_ring *ring = request->slot.ring;

    if (ring->parked_count >= max_of(ring->slot_count / 4, 1u)) { /* (P2) */
        request->cmd.status = SCSI_TASK_SET_FULL;
        hba_request_complete(request, VIRTIO_SCSI_S_OK);
        return;
    }
    ring->parked_count++;
    list_add_tail(&ring->parked, &request->park_link);
    hba_slot_show(&request->slot, HBA_REQUEST_PARKED, request->target, request->lun_number,
                  request->cdb, request->lun->serial);
}

void hba_request_unpark(struct hba_request *request)
{
    request->slot.ring->parked_count--;
    list_remove(&request->park_link);
}

/* Move those of @lun, in order, from @ring to @to. */
HOME_LOOP
static void parked_take(struct hba_ring *ring, const struct hba_lun *lun, struct list *to)
{
    struct hba_request *request;
    struct hba_request *following;

    list_for_each_safe(request, following, &ring->parked, park_link) {
        if (request->lun == lun) {
            hba_request_unpark(request);
            list_add_tail(to, &request->park_link);
        }
    }
}

/* ---- the end of a section ----------------------------------------------------------------- */

/* Under a token that was raised for this queue. */
HOME_LOOP
static void restart_step(struct hba_queue *queue, void *opaque)
{
    struct hba_lun *lun = opaque;
    struct blk_root *root = lun->root;
    struct list batch = LIST_INIT(batch);
    struct hba_request *request;
    struct hba_ring *ring;

    blk_root_assert_token(root);
    list_for_each(ring, &queue->rings, link) {
        parked_take(ring, lun, &batch);
    }
    while ((request = list_first(&batch, struct hba_request, park_link)) != NULL) {
        list_remove(&request->park_link);
        hba_request_start_under(request);
    }
    blk_root_drop(root);
}

TSA_TRUST /* the tokens travel with the posts */
void hba_lun_restart(struct hba_lun *lun)
{
    for (unsigned i = HBA_FIXED_QUEUES; i < lun->hba->queue_count; i++) {
        blk_root_raise_under(lun->root);
        hba_queue_post(&lun->hba->queues[i], restart_step, lun); /* (P3) */
    }
}

/* ---- a LUN that goes ---------------------------------------------------------------------- */

HOME_LOOP
static void purge_step(struct hba_queue *queue, void *opaque)
{
    const struct hba_lun *lun = opaque;
    struct list batch = LIST_INIT(batch);
    struct hba_request *request;
    struct hba_ring *ring;

    list_for_each(ring, &queue->rings, link) {
        parked_take(ring, lun, &batch);
    }
    while ((request = list_first(&batch, struct hba_request, park_link)) != NULL) {
        list_remove(&request->park_link);
        hba_request_complete_sense(request, SCSI_LUN_NOT_SUPPORTED);
    }
}

void hba_lun_co_purge(struct hba_lun *lun)
{
    hba_co_round(lun->hba, purge_step, lun);
}
