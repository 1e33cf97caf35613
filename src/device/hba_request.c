/*
 * hba_request.c -- the life of one SCSI command on a request queue (virtio 1.3, 5.6.6.1).
 *
 * (R1) From the lookup of the LUN to the raised token (or the parking, or the answer) nothing
 *      yields and the queue's home is not left: (H2). The token is what keeps the device; a command
 *      without one (INQUIRY and the like) does not yield, so a round over the homes waits for it
 *      too.
 * (R2) The token is dropped after the answer has been pushed: who has drained a LUN and looked at
 *      its tokens knows that no request of it is out.
 * (R3) Every command gets exactly one answer, unless its front end is gone.
 */
#include <inttypes.h>
#include <string.h>
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "device/hba_int.h"

enum {
    HEAD_BYTES = offsetof(struct virtio_scsi_cmd_req, cdb),    /* the CDB follows */
    RESP_BYTES = offsetof(struct virtio_scsi_cmd_resp, sense), /* sense data follow */
};

/* ---- answers ------------------------------------------------------------------------------ */

HOME_LOOP
static void write_response(struct hba_request *request, uint8_t response, uint32_t *ret_written)
{
    const struct hba_ring *ring = request->slot.ring;
    const struct scsi_cmd *cmd = &request->cmd;
    uint8_t raw[RESP_BYTES + VIRTIO_SCSI_SENSE_BYTES_MAX] = {0};
    size_t room = cmd->data_in_bytes + cmd->data_out_bytes;
    size_t moved = response == VIRTIO_SCSI_S_OK ? cmd->transferred : 0;
    size_t head = RESP_BYTES + ring->sense_bytes;

    if (response == VIRTIO_SCSI_S_OK) {
        size_t sense_bytes = min_of(cmd->sense_bytes, ring->sense_bytes);

        le32_store(raw, (uint32_t)sense_bytes);
        raw[offsetof(struct virtio_scsi_cmd_resp, status)] = cmd->status;
        memcpy(raw + RESP_BYTES, cmd->sense, sense_bytes);
    }
    le32_store(raw + offsetof(struct virtio_scsi_cmd_resp, residual), (uint32_t)(room - moved));
    raw[offsetof(struct virtio_scsi_cmd_resp, response)] = response;
    virtq_elem_write(ring->vq, &request->slot.elem, 0, raw, head);
    *ret_written = (uint32_t)(head + (cmd->data_in_bytes > 0 ? moved : 0));
}

HOME_LOOP
static void fire_watchers(struct list *watchers)
{
    struct hba_watcher *watcher;
    struct hba_watcher *following;

    list_for_each_safe(watcher, following, watchers, link) {
        list_remove(&watcher->link);
        hba_group_done(watcher->group);
        mem_free(watcher);
    }
}

void hba_request_complete(struct hba_request *request, uint8_t response)
{
    struct hba_ring *ring = request->slot.ring;
    struct list watchers = LIST_INIT(watchers);
    bool is_abandoned = ring->state == HBA_RING_ABANDONED;
    uint32_t written = 0;

    TRACE(hba_complete, "queue %u tag %" PRIu64 " response %u status %u", ring->queue->index,
          request->tag, response, request->cmd.status);
    if (request->cut != NULL) {
        *request->cut = request->cut_saved;
    }
    if (!is_abandoned) {
        write_response(request, response, &written);
    }
    list_splice_tail(&watchers, &request->watchers);
    request->lun = NULL;
    hba_slot_complete(&request->slot, written); /* an abandoned ring may be gone now */
    if (!list_is_empty(&watchers)) {
        if (!is_abandoned) {
            hba_ring_flush(ring); /* the guest sees the answer before that of the TMF */
        }
        fire_watchers(&watchers);
    }
}

HOME_LOOP
static void complete_status(struct hba_request *request, enum scsi_status status)
{
    request->cmd.status = (uint8_t)status;
    request->cmd.transferred = 0;
    hba_request_complete(request, VIRTIO_SCSI_S_OK);
}

void hba_request_complete_sense(struct hba_request *request, struct scsi_sense sense)
{
    request->cmd.sense_bytes = scsi_sense_fixed(sense, request->cmd.sense);
    complete_status(request, SCSI_CHECK_CONDITION);
}

/* ---- execution ---------------------------------------------------------------------------- */

CO_FN
static void request_co(void *opaque)
{
    struct hba_request *request = opaque;
    struct hba_queue *queue = request->slot.ring->queue;
    struct blk_root *root = request->lun->root;

    blk_root_assert_token(root);
    scsi_co_execute(request->lun->slot.port, &request->cmd);
    loop_assert_home(hba_queue_co_enter(queue));
    hba_request_complete(request, request->cancel_response);
    blk_root_drop(root); /* (R2) */
}

HOME_LOOP
static void request_run(struct hba_request *request)
{
    hba_slot_show(&request->slot, HBA_REQUEST_RUNNING, request->target, request->lun_number,
                  request->cdb, request->lun->serial);
    loop_co_start(request_co, request, "scsi command");
}

TSA_TRUST /* the token travels into the coroutine */
void hba_request_start(struct hba_request *request)
{
    request_run(request);
}

TSA_TRUST /* as above, and the caller's own token stays his */
void hba_request_start_under(struct hba_request *request)
{
    blk_root_raise_under(request->lun->root);
    request_run(request);
}

CO_FN
static void tokenless_co(void *opaque)
{
    struct hba_request *request = opaque;

    NO_YIELD_SCOPE(); /* (R1) */
    loop_assert_home(at_load(&request->slot.ring->queue->home));
    scsi_co_execute(request->lun->slot.port, &request->cmd);
    hba_request_complete(request, VIRTIO_SCSI_S_OK);
}

/* Needs more room than the initiator gave? Then nothing is executed: S_OVERRUN. */
HOME_LOOP
static bool overruns(const struct hba_request *request, const struct scsi_port *port)
{
    uint64_t wanted = 0;

    switch (scsi_cmd_transfer(port, request->cdb, &wanted)) {
    case SCSI_DATA_NONE:
        return false;
    case SCSI_DATA_IN:
        return wanted > request->cmd.data_in_bytes;
    case SCSI_DATA_OUT:
        return wanted > request->cmd.data_out_bytes;
    }
    unreachable();
}

/* No such LUN, or a command that targets answer themselves; inside an RCU read section. */
HOME_LOOP
static void execute_at_target(struct hba_request *request)
{
    struct scsi_table *table = request->slot.ring->queue->hba->table;

    if (request->lun_number != SCSI_LUN_WELL_KNOWN_REPORT &&
        !scsi_table_has_target(table, request->target)) {
        hba_request_complete(request, VIRTIO_SCSI_S_BAD_TARGET);
        return;
    }
    if (overruns(request, NULL)) {
        hba_request_complete(request, VIRTIO_SCSI_S_OVERRUN);
        return;
    }
    scsi_target_execute(table, request->target, request->lun_number, &request->cmd);
    hba_request_complete(request, VIRTIO_SCSI_S_OK);
}

/* Whom is it for? NULL: answered already. */
HOME_LOOP
static struct hba_lun *request_find_lun(struct hba_request *request)
{
    struct scsi_slot *slot;

    RCU_READ_SCOPE();
    slot = scsi_table_find(request->slot.ring->queue->hba->table, request->target,
                           request->lun_number);
    if (slot == NULL || scsi_target_answers(request->cdb)) {
        execute_at_target(request);
        return NULL;
    }
    return container_of(slot, struct hba_lun, slot); /* valid until this turn yields: (R1) */
}

HOME_LOOP
static void request_dispatch(struct hba_request *request)
{
    struct hba_ring *ring = request->slot.ring;
    struct hba_lun *lun = request_find_lun(request);

    if (lun == NULL) {
        return;
    }
    request->lun = lun;
    if (overruns(request, lun->slot.port)) {
        hba_request_complete(request, VIRTIO_SCSI_S_OVERRUN);
    } else if (!scsi_cmd_needs_medium(request->cdb)) {
        loop_co_start(tokenless_co, request, "scsi command");
    } else if (hba_ring_has_parked(ring, lun)) {
        hba_request_park(request); /* behind those of its LUN */
    } else if (blk_root_raise(lun->root)) {
        hba_request_start(request);
    } else {
        hba_request_park(request);
    }
}

/* ---- parsing ------------------------------------------------------------------------------ */

/* Take the first @bytes off *@iov. The piece that is cut in two, if any, is returned; *@ret_saved
 * is what it was. */
ANY_THREAD
static struct iovec *iov_behead(struct iovec **iov, size_t *count, size_t bytes,
                                struct iovec *ret_saved)
{
    struct iovec *first = *iov;

    while (*count > 0 && bytes >= first->iov_len) {
        bytes -= first->iov_len;
        first++;
        (*count)--;
    }
    *iov = first;
    if (*count == 0 || bytes == 0) {
        return NULL;
    }
    *ret_saved = *first;
    first->iov_base = (char *)first->iov_base + bytes;
    first->iov_len -= bytes;
    return first;
}

/* Everything the header says, copied once. */
HOME_LOOP
static void request_fill(struct hba_request *request, const uint8_t *head)
{
    const struct hba_ring *ring = request->slot.ring;
    struct virtq_elem *elem = &request->slot.elem;
    struct scsi_cmd *cmd = &request->cmd;
    struct iovec *out = elem->iov;
    struct iovec *in = elem->iov + elem->out_count;
    size_t head_bytes = HEAD_BYTES + ring->cdb_bytes;
    struct iovec unused;

    request->tag = le64_load(head + offsetof(struct virtio_scsi_cmd_req, id));
    memset(request->cdb, 0, sizeof(request->cdb));
    memcpy(request->cdb, head + HEAD_BYTES, min_of(ring->cdb_bytes, sizeof(request->cdb)));
    cmd->data_out_count = elem->out_count;
    cmd->data_in_count = elem->in_count;
    iov_behead(&out, &cmd->data_out_count, head_bytes, &unused);
    request->cut = iov_behead(&in, &cmd->data_in_count, RESP_BYTES + ring->sense_bytes,
                              &request->cut_saved);
    cmd->data_out = out;
    cmd->data_in = in;
    cmd->data_out_bytes = elem->out_bytes - head_bytes;
    cmd->data_in_bytes = elem->in_bytes - (RESP_BYTES + ring->sense_bytes);
}

HOME_LOOP
static void request_clear(struct hba_request *request)
{
    struct scsi_cmd *cmd = &request->cmd;

    list_init(&request->park_link);
    list_init(&request->watchers);
    request->lun = NULL;
    request->tag = 0;
    request->cancel_response = VIRTIO_SCSI_S_OK;
    request->cut = NULL;
    cmd->cdb = request->cdb;
    cmd->data_out_bytes = cmd->data_in_bytes = 0;
    cmd->data_out_count = cmd->data_in_count = 0;
    cmd->status = SCSI_GOOD;
    cmd->transferred = 0;
    cmd->sense_bytes = 0;
    cmd->medium_errno = 0;
}

HOME_LOOP
static void request_serve(struct hba_request *request)
{
    struct hba_ring *ring = request->slot.ring;
    const struct virtq_elem *elem = &request->slot.elem;
    uint8_t head[HEAD_BYTES + HBA_CDB_BYTES_MAX];
    size_t head_bytes = HEAD_BYTES + ring->cdb_bytes;
    size_t resp_bytes = RESP_BYTES + ring->sense_bytes;

    request_clear(request);
    if (elem->in_bytes < resp_bytes) { /* no room even to say so */
        uint32_t in_bytes = elem->in_bytes;

        hba_slot_unpop(&request->slot);
        hba_ring_break(ring, "a request has %u writable bytes; its response alone takes %zu",
                       in_bytes, resp_bytes);
        return;
    }
    if (elem->out_bytes < head_bytes) {
        hba_request_complete(request, VIRTIO_SCSI_S_FAILURE);
        return;
    }
    virtq_elem_read(elem, 0, head, head_bytes);
    request_fill(request, head);
    TRACE(hba_request, "queue %u tag %" PRIu64 " opcode %02x out %zu in %zu", ring->queue->index,
          request->tag, request->cdb[0], request->cmd.data_out_bytes, request->cmd.data_in_bytes);
    if (!hba_address_parse(head, &request->target, &request->lun_number)) {
        hba_request_complete(request, VIRTIO_SCSI_S_BAD_TARGET);
    } else if (request->cmd.data_out_bytes > 0 && request->cmd.data_in_bytes > 0) {
        hba_request_complete(request, VIRTIO_SCSI_S_FAILURE); /* F_INOUT is not offered */
    } else {
        request_dispatch(request);
    }
}

HOME_LOOP
static void request_turn(struct hba_ring *ring)
{
    for (int i = 0; i < LOOP_BUDGET; i++) {
        struct hba_slot *slot = hba_ring_pop(ring);

        if (slot == NULL) {
            return;
        }
        request_serve(container_of(slot, struct hba_request, slot));
    }
    hba_ring_again(ring);
}

/* A ring that stops answers what is parked BUSY: the guest may try again elsewhere. */
HOME_LOOP
static void request_stopping(struct hba_ring *ring)
{
    struct hba_request *request;

    while ((request = list_first(&ring->parked, struct hba_request, park_link)) != NULL) {
        hba_request_unpark(request);
        hba_request_complete(request, VIRTIO_SCSI_S_BUSY);
    }
}

const struct hba_queue_kind hba_request_kind = {
    .name = "request",
    .slot_bytes = sizeof(struct hba_request),
    .turn = request_turn,
    .stopping = request_stopping,
};
