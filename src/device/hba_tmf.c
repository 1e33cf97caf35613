/*
 * hba_tmf.c -- the control queue: task management, asynchronous notification (virtio 1.3, 5.6.6.2).
 *
 * Each task management function is a coroutine of its own on the main loop, which knows the LUNs;
 * one that waits for a stuck request blocks no other.
 *
 * (M1) Affected requests are found by one post per request queue, on its home (H3). Parked ones are
 *      answered there; of those that run the answer is changed, and the function watches them.
 * (M2) A watcher is told after the request's answer is visible to the guest (fire_watchers), and
 *      the function answers when all posts have run and all watchers were told: so it never
 *      completes before a request that it affects.
 * (M3) A request is recognised by the serial number of its LUN, never by an address that another
 *      LUN may have got since.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "device/hba_int.h"

struct hba_control {
    struct hba_slot slot; /* first */
    uint32_t subtype;
    uint8_t target;
    uint16_t lun;
    bool is_addressed; /* target and lun were understood */
    uint64_t tag;
};

/* Which requests: those for which every part that is set is right. */
struct match {
    struct hba_group *group;
    uint64_t lun_serial; /* 0: any LUN of the target */
    uint8_t target;
    bool by_tag;
    uint64_t tag;
    uint8_t response;     /* what they are answered with; VIRTIO_SCSI_S_OK: only count them */
    bool former_sessions; /* also those whose front end is gone */
};

HOME_LOOP
static bool matches(const struct match *match, const struct hba_request *request)
{
    if (request->lun == NULL || request->target != match->target) {
        return false;
    }
    return (match->lun_serial == 0 || request->lun->serial == match->lun_serial) &&
           (!match->by_tag || request->tag == match->tag);
}

HOME_LOOP
static void match_hit(const struct match *match, struct hba_request *request)
{
    struct hba_watcher *watcher;

    at_add(&match->group->found, 1);
    if (match->response == VIRTIO_SCSI_S_OK) {
        return;
    }
    if (list_is_linked(&request->park_link)) {
        hba_request_unpark(request);
        hba_request_complete(request, match->response);
        return;
    }
    request->cancel_response = match->response;
    watcher = mem_new(struct hba_watcher);
    watcher->group = match->group;
    at_add(&match->group->pending, 1);
    list_add_tail(&request->watchers, &watcher->link);
}

/* (M1) */
HOME_LOOP
static void match_step(struct hba_queue *queue, void *opaque)
{
    const struct match *match = opaque;
    struct hba_ring *ring;
    struct hba_slot *slot;
    struct hba_slot *following;

    list_for_each(ring, &queue->rings, link) {
        if (ring->state == HBA_RING_ABANDONED && !match->former_sessions) {
            continue;
        }
        list_for_each_safe(slot, following, &ring->busy, link) {
            struct hba_request *request = container_of(slot, struct hba_request, slot);

            if (matches(match, request)) {
                match_hit(match, request);
            }
        }
        if (ring->state != HBA_RING_ABANDONED) {
            hba_ring_flush(ring); /* (M2) for the parked ones */
        }
    }
    hba_group_done(match->group);
}

/* Post @match to every request queue of @hba; their number. */
MAIN_LOOP
static void match_post(struct hba *hba, struct match *match)
{
    at_add(&match->group->pending, hba->queue_count - HBA_FIXED_QUEUES);
    for (unsigned i = HBA_FIXED_QUEUES; i < hba->queue_count; i++) {
        hba_queue_post(&hba->queues[i], match_step, match);
    }
}

/* Begin with one pending, so that the group does not end before everything is posted. */
CO_FN
static void group_begin(struct hba_group *group)
{
    group->pending = 1;
    group->found = 0;
    co_wait_init(&group->wait);
}

CO_FN
static void group_co_end(struct hba_group *group)
{
    hba_group_done(group);
    co_wait_block(&group->wait);
}

/* ---- the functions ------------------------------------------------------------------------ */

MAIN_LOOP
static struct hba_lun *control_find_lun(const struct hba_control *control)
{
    struct scsi_table *table = control->slot.ring->queue->hba->table;
    struct scsi_slot *slot = scsi_table_at(table, control->target, control->lun);

    return slot != NULL ? container_of(slot, struct hba_lun, slot) : NULL;
}

/* Requests of one LUN through this adapter: all, or the one with the tag. */
MAIN_LOOP CO_FN
static unsigned lun_co_match(const struct hba_control *control, struct hba_lun *lun, bool by_tag,
                             uint8_t response)
{
    struct hba_group group;
    struct match match = {
        .group = &group,
        .lun_serial = lun->serial,
        .target = control->target,
        .by_tag = by_tag,
        .tag = control->tag,
        .response = response,
    };

    group_begin(&group);
    match_post(lun->hba, &match);
    group_co_end(&group);
    return at_load(&group.found);
}

/* Requests of the logical unit through whatever port (SAM-5 7.3, 7.7), and what its ports are
 * told. */
MAIN_LOOP CO_FN
static void unit_co_clear(struct hba_lun *lun, uint8_t response, enum scsi_ua ua, bool tell_own)
{
    struct hba_group group;
    struct match *matches;
    struct list *link = &lun->nexus_link;
    unsigned ports = 0;

    do {
        ports++;
        link = link->next;
    } while (link != &lun->nexus_link);
    matches = mem_alloc_array(ports, sizeof(*matches));
    group_begin(&group);
    for (unsigned i = 0; i < ports; i++, link = link->next) {
        struct hba_lun *port = list_entry(link, struct hba_lun, nexus_link);

        if (port != lun || tell_own) {
            scsi_port_raise_ua(port->slot.port, ua);
        }
        matches[i] = (struct match){
            .group = &group,
            .lun_serial = port->serial,
            .target = port->slot.target,
            .response = response,
            .former_sessions = true,
        };
        match_post(port->hba, &matches[i]);
    }
    group_co_end(&group);
    mem_free(matches);
}

/* SAM-5 7.6: all tasks of this initiator at the target. */
MAIN_LOOP CO_FN
static void nexus_co_reset(const struct hba_control *control)
{
    struct hba *hba = control->slot.ring->queue->hba;
    struct hba_group group;
    struct match match = {
        .group = &group,
        .target = control->target,
        .response = VIRTIO_SCSI_S_RESET,
        .former_sessions = true,
    };
    struct hba_lun *lun;

    group_begin(&group);
    list_for_each(lun, &hba->luns, hba_link) {
        if (lun->slot.target == control->target) {
            scsi_port_raise_ua(lun->slot.port, SCSI_UA_NEXUS_LOSS);
        }
    }
    match_post(hba, &match);
    group_co_end(&group);
}

MAIN_LOOP
static bool target_exists(const struct hba_control *control)
{
    const struct hba_lun *lun;

    list_for_each(lun, &control->slot.ring->queue->hba->luns, hba_link) {
        if (control->is_addressed && lun->slot.target == control->target) {
            return true;
        }
    }
    return false;
}

MAIN_LOOP CO_FN
static uint8_t tmf_co_run_at_lun(const struct hba_control *control, struct hba_lun *lun)
{
    unsigned found;

    switch ((enum virtio_scsi_tmf)control->subtype) {
    case VIRTIO_SCSI_T_TMF_ABORT_TASK:
        lun_co_match(control, lun, true, VIRTIO_SCSI_S_ABORTED);
        return VIRTIO_SCSI_S_OK; /* FUNCTION COMPLETE, also when there was none (SAM-5 7.2) */
    case VIRTIO_SCSI_T_TMF_ABORT_TASK_SET:
        lun_co_match(control, lun, false, VIRTIO_SCSI_S_ABORTED);
        return VIRTIO_SCSI_S_OK;
    case VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET:
        unit_co_clear(lun, VIRTIO_SCSI_S_ABORTED, SCSI_UA_COMMANDS_CLEARED, false);
        return VIRTIO_SCSI_S_OK;
    case VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET:
        unit_co_clear(lun, VIRTIO_SCSI_S_RESET, SCSI_UA_BUS_DEVICE_RESET, true);
        return VIRTIO_SCSI_S_OK;
    case VIRTIO_SCSI_T_TMF_QUERY_TASK:
        found = lun_co_match(control, lun, true, VIRTIO_SCSI_S_OK);
        return found > 0 ? VIRTIO_SCSI_S_FUNCTION_SUCCEEDED : VIRTIO_SCSI_S_OK;
    case VIRTIO_SCSI_T_TMF_QUERY_TASK_SET:
        found = lun_co_match(control, lun, false, VIRTIO_SCSI_S_OK);
        return found > 0 ? VIRTIO_SCSI_S_FUNCTION_SUCCEEDED : VIRTIO_SCSI_S_OK;
    case VIRTIO_SCSI_T_TMF_CLEAR_ACA:       /* NACA is not supported, so there is no ACA */
    case VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET: /* not of one LUN: tmf_co_run() */
        break;
    }
    return VIRTIO_SCSI_S_FUNCTION_REJECTED;
}

MAIN_LOOP CO_FN
static uint8_t tmf_co_run(const struct hba_control *control)
{
    struct hba_lun *lun;

    if (!target_exists(control)) {
        return VIRTIO_SCSI_S_BAD_TARGET;
    }
    if (control->subtype == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET) {
        nexus_co_reset(control);
        return VIRTIO_SCSI_S_OK;
    }
    lun = control_find_lun(control);
    return lun == NULL ? VIRTIO_SCSI_S_INCORRECT_LUN : tmf_co_run_at_lun(control, lun);
}

MAIN_LOOP CO_FN
static void tmf_co(void *opaque)
{
    struct hba_control *control = opaque;
    uint8_t response = tmf_co_run(control);

    TRACE(hba_tmf, "subtype %u target %u lun %u response %u", control->subtype, control->target,
          control->lun, response);
    loop_assert_home(hba_queue_co_enter(control->slot.ring->queue));
    if (control->slot.ring->state != HBA_RING_ABANDONED) {
        virtq_elem_write(control->slot.ring->vq, &control->slot.elem, 0, &response, 1);
    }
    hba_slot_complete(&control->slot, 1);
}

/* ---- parsing ------------------------------------------------------------------------------ */

HOME_LOOP
static void control_answer(struct hba_control *control, uint8_t response)
{
    virtq_elem_write(control->slot.ring->vq, &control->slot.elem, 0, &response, 1);
    hba_slot_complete(&control->slot, 1);
}

HOME_LOOP
static void tmf_serve(struct hba_control *control)
{
    uint8_t raw[sizeof(struct virtio_scsi_tmf_req)];
    uint8_t shown[16] = {0};

    if (control->slot.elem.out_bytes < sizeof(raw)) {
        control_answer(control, VIRTIO_SCSI_S_FAILURE);
        return;
    }
    virtq_elem_read(&control->slot.elem, 0, raw, sizeof(raw));
    control->subtype = le32_load(raw + offsetof(struct virtio_scsi_tmf_req, subtype));
    control->tag = le64_load(raw + offsetof(struct virtio_scsi_tmf_req, id));
    control->lun = HBA_LUN_NONE;
    control->target = 0;
    control->is_addressed = hba_address_parse(raw + offsetof(struct virtio_scsi_tmf_req, lun),
                                              &control->target, &control->lun);
    shown[0] = (uint8_t)control->subtype;
    hba_slot_show(&control->slot, HBA_REQUEST_RUNNING, control->target, control->lun, shown, 0);
    loop_co_spawn(loop_main(), tmf_co, control, "scsi task management");
}

/* Which of the asked-for events can be reported? Disks have none (they are MMC's). */
HOME_LOOP
static void notification_serve(struct hba_control *control)
{
    struct scsi_table *table = control->slot.ring->queue->hba->table;
    uint8_t raw[sizeof(struct virtio_scsi_an_req)];
    struct virtio_scsi_an_resp answer = {.response = VIRTIO_SCSI_S_OK};
    uint8_t target = 0;
    uint16_t lun = HBA_LUN_NONE;

    if (control->slot.elem.in_bytes < sizeof(answer)) {
        control_answer(control, VIRTIO_SCSI_S_FAILURE);
        return;
    }
    if (virtq_elem_read(&control->slot.elem, 0, raw, sizeof(raw)) < sizeof(raw)) {
        answer.response = VIRTIO_SCSI_S_FAILURE;
    } else {
        RCU_READ_SCOPE();
        if (!hba_address_parse(raw + offsetof(struct virtio_scsi_an_req, lun), &target, &lun) ||
            !scsi_table_has_target(table, target)) {
            answer.response = VIRTIO_SCSI_S_BAD_TARGET;
        } else if (scsi_table_find(table, target, lun) == NULL) {
            answer.response = VIRTIO_SCSI_S_INCORRECT_LUN;
        }
    }
    virtq_elem_write(control->slot.ring->vq, &control->slot.elem, 0, &answer, sizeof(answer));
    hba_slot_complete(&control->slot, sizeof(answer));
}

HOME_LOOP
static void control_serve(struct hba_control *control)
{
    struct hba_slot *slot = &control->slot;
    struct hba_ring *ring = slot->ring;
    uint8_t type[4];

    if (slot->elem.in_bytes == 0) { /* no room even to say so */
        hba_slot_unpop(slot);
        hba_ring_break(ring, "a control request has no writable byte for its response");
        return;
    }
    if (virtq_elem_read(&slot->elem, 0, type, sizeof(type)) < sizeof(type)) {
        control_answer(control, VIRTIO_SCSI_S_FAILURE);
        return;
    }
    switch (le32_load(type)) {
    case VIRTIO_SCSI_T_TMF:
        tmf_serve(control);
        break;
    case VIRTIO_SCSI_T_AN_QUERY:
    case VIRTIO_SCSI_T_AN_SUBSCRIBE:
        notification_serve(control);
        break;
    default: /* a number from the guest, not an enum */
        control_answer(control, VIRTIO_SCSI_S_FAILURE);
    }
}

HOME_LOOP
static void control_turn(struct hba_ring *ring)
{
    for (int i = 0; i < LOOP_BUDGET; i++) {
        struct hba_slot *slot = hba_ring_pop(ring);

        if (slot == NULL) {
            return;
        }
        control_serve(container_of(slot, struct hba_control, slot));
    }
    hba_ring_again(ring);
}

HOME_LOOP
static void control_stopping(struct hba_ring *ring)
{
    (void)ring; /* each function ends by itself, with the requests it waits for */
}

const struct hba_queue_kind hba_control_kind = {
    .name = "control",
    .slot_bytes = sizeof(struct hba_control),
    .turn = control_turn,
    .stopping = control_stopping,
};
