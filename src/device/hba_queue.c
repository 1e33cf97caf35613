/*
 * hba_queue.c -- queues and their homes: getting there, a round over all of them, moving one.
 *
 * (Q2) in full: a post, or a coroutine, is sent to the home it read; when it gets there and the
 *      queue
 * has moved on it follows. Posts sent to one home run in the order of posting, and follow in that
 * order.
 */
#include <string.h>
#include "base/mem.h"
#include "device/hba_ring_int.h"

bool hba_address_parse(const uint8_t *lun_bytes, uint8_t *ret_target, uint16_t *ret_lun)
{
    static const uint8_t well_known[8] = {0xc1, 0x01};
    static const uint8_t zeroes[4];
    unsigned method = lun_bytes[2] >> 6;

    if (memcmp(lun_bytes, well_known, sizeof(well_known)) == 0) {
        *ret_target = 0;
        *ret_lun = SCSI_LUN_WELL_KNOWN_REPORT;
        return true;
    }
    if (lun_bytes[0] != 1) {
        return false;
    }
    *ret_target = lun_bytes[1];
    *ret_lun = HBA_LUN_NONE;
    if (memcmp(lun_bytes + 4, zeroes, sizeof(zeroes)) != 0) {
        return true; /* a second level: no target of ours has one */
    }
    if (method == 0 && lun_bytes[2] == 0) { /* peripheral device addressing, bus 0 */
        *ret_lun = lun_bytes[3];
    } else if (method == 1) { /* flat space addressing */
        *ret_lun = (uint16_t)((lun_bytes[2] & 0x3f) << 8 | lun_bytes[3]);
    } else if (lun_bytes[2] == 0xc1 && lun_bytes[3] == 0x01) {
        *ret_lun = SCSI_LUN_WELL_KNOWN_REPORT;
    }
    return true;
}

void hba_address_format(uint8_t target, uint16_t lun, uint8_t *lun_bytes)
{
    memset(lun_bytes, 0, VIRTIO_SCSI_LUN_BYTES);
    lun_bytes[0] = 1;
    lun_bytes[1] = target;
    lun_bytes[2] = lun < 256 ? 0 : (uint8_t)(0x40 | lun >> 8); /* as REPORT LUNS has it */
    lun_bytes[3] = (uint8_t)lun;
}

struct loop *hba_queue_co_enter(struct hba_queue *queue)
{
    struct loop *home;

    while ((home = at_load(&queue->home)) != loop_self()) {
        loop_co_move(home);
    }
    return home;
}

/* ---- posts -------------------------------------------------------------------------------- */

struct post {
    struct hba_queue *queue;
    HOME_SLOT hba_queue_fn *fn;
    void *opaque;
};

HOME_LOOP
static void post_bh(void *opaque)
{
    struct post *post = opaque;
    struct loop *home = at_load(&post->queue->home);

    if (home != loop_self()) {
        bh_once(home, post_bh, post, "hba post");
        return;
    }
    post->fn(post->queue, post->opaque);
    mem_free(post);
}

void hba_queue_post(struct hba_queue *queue, hba_queue_fn *fn, void *opaque)
{
    struct post *post = mem_new(struct post);

    *post = (struct post){.queue = queue, .fn = fn, .opaque = opaque};
    bh_once(at_load(&queue->home), post_bh, post, "hba post");
}

void hba_group_done(struct hba_group *group)
{
    if (at_sub(&group->pending, 1) == 1) {
        co_wait_complete(&group->wait, 0);
    }
}

struct round {
    struct hba_group group;
    HOME_SLOT hba_queue_fn *fn;
    void *opaque;
};

HOME_LOOP
static void round_step(struct hba_queue *queue, void *opaque)
{
    struct round *round = opaque;

    round->fn(queue, round->opaque);
    hba_group_done(&round->group);
}

void hba_co_round(struct hba *hba, hba_queue_fn *fn, void *opaque)
{
    struct round round = {.fn = fn, .opaque = opaque, .group.pending = hba->queue_count};

    co_wait_init(&round.group.wait);
    for (unsigned i = 0; i < hba->queue_count; i++) {
        hba_queue_post(&hba->queues[i], round_step, &round);
    }
    co_wait_block(&round.group.wait);
}

/* ---- moving ------------------------------------------------------------------------------- */

/* At the new home: take up what has not been taken up or stopped by others meanwhile. */
HOME_LOOP
static void queue_arrive(struct hba_queue *queue)
{
    struct hba_ring *ring;

    list_for_each(ring, &queue->rings, link) {
        if (ring->state == HBA_RING_RUNNING && !ring->attached && hba_ring_attach(ring) < 0) {
            hba_ring_break(ring, "its kick descriptor cannot be watched by %s",
                           loop_name(loop_self()));
        }
    }
}

void hba_queue_co_move(struct hba_queue *queue, struct loop *to)
{
    struct hba_ring *ring;

    loop_assert_home(hba_queue_co_enter(queue));
    if (loop_self() != to) {
        list_for_each(ring, &queue->rings, link) {
            hba_ring_detach(ring);
        }
        at_store(&queue->home, to); /* (Q2): on the old home; from here on the rings are @to's */
        loop_co_move(to);
        loop_assert_home(to);
        queue_arrive(queue);
    }
    loop_co_move(loop_main());
}
