/*
 * hba.c -- the adapter as a whole: making and freeing it, what the transport asks of it, its LUNs.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"
#include "device/hba_ring_int.h"
#include "os/file.h"

static struct list hbas = LIST_INIT(hbas);
static uint64_t lun_serials;

/* ---- life --------------------------------------------------------------------------------- */

MAIN_LOOP
static void queue_init(struct hba *hba, unsigned index, struct loop *home)
{
    struct hba_queue *queue = &hba->queues[index];

    queue->hba = hba;
    queue->index = index;
    queue->home = home;
    list_init(&queue->rings);
    if (index == VIRTIO_SCSI_CONTROL_QUEUE) {
        queue->kind = &hba_control_kind;
    } else if (index == VIRTIO_SCSI_EVENT_QUEUE) {
        queue->kind = &hba_event_kind;
    } else {
        queue->kind = &hba_request_kind;
    }
}

struct hba *hba_new(const struct hba_config *config, const struct virtio_transport_ops *ops,
                    void *transport)
{
    struct hba *hba = mem_new(struct hba);

    assert(config->request_queues >= 1 && config->request_queues <= HBA_REQUEST_QUEUES_MAX);
    hba->id = mem_strdup(config->id);
    hba->queue_count = config->request_queues + HBA_FIXED_QUEUES;
    hba->queues = mem_alloc_array(hba->queue_count, sizeof(*hba->queues));
    hba->ops = ops;
    hba->transport = transport;
    hba->table = scsi_table_new();
    list_init(&hba->luns);
    list_init(&hba->rings);
    list_init(&hba->events);
    co_queue_init(&hba->ring_gone);
    hba->sense_bytes = VIRTIO_SCSI_SENSE_BYTES;
    hba->cdb_bytes = VIRTIO_SCSI_CDB_BYTES;
    for (unsigned i = 0; i < hba->queue_count; i++) {
        queue_init(hba, i, config->homes[i]);
    }
    list_add_tail(&hbas, &hba->link);
    return hba;
}

HOME_LOOP
static void free_step(struct hba_queue *queue, void *opaque)
{
    (void)opaque;
    assert(queue->ring == NULL); /* the transport stopped or abandoned it */
    if (queue->kind == &hba_event_kind) {
        hba_events_forget(queue->hba);
    }
}

void hba_co_free(struct hba *hba)
{
    if (hba == NULL) {
        return;
    }
    assert(list_is_empty(&hba->luns));
    list_remove(&hba->link);
    while (!list_is_empty(&hba->rings)) { /* abandoned ones whose requests are not back */
        co_queue_wait(&hba->ring_gone, NULL);
    }
    hba_co_round(hba, free_step, NULL); /* behind every post under way */
    scsi_table_free(hba->table);
    mem_free(hba->queues);
    mem_free(hba->id);
    mem_free(hba);
}

void hba_close(struct hba *hba)
{
    list_remove(&hba->link);
}

struct hba *hba_only(void)
{
    struct hba *first = list_first(&hbas, struct hba, link);

    return first != NULL && first->link.next == &hbas ? first : NULL;
}

struct hba *hba_find(const char *id)
{
    struct hba *hba;

    list_for_each(hba, &hbas, link) {
        if (str_equal(hba->id, id)) {
            return hba;
        }
    }
    return NULL;
}

const char *hba_id(const struct hba *hba)
{
    return hba->id;
}

struct scsi_table *hba_table(struct hba *hba)
{
    return hba->table;
}

/* ---- what the transport asks -------------------------------------------------------------- */

MAIN_LOOP
static unsigned op_queue_count(void *device)
{
    const struct hba *hba = device;

    return hba->queue_count;
}

MAIN_LOOP
static void config_encode(const struct hba *hba, uint8_t *to)
{
    le32_store(to + offsetof(struct virtio_scsi_config, num_queues),
               hba->queue_count - HBA_FIXED_QUEUES);
    le32_store(to + offsetof(struct virtio_scsi_config, seg_max), VIRTQ_IOV_MAX - 2);
    le32_store(to + offsetof(struct virtio_scsi_config, max_sectors), 0xffff);
    le32_store(to + offsetof(struct virtio_scsi_config, cmd_per_lun), 128);
    le32_store(to + offsetof(struct virtio_scsi_config, event_info_size),
               sizeof(struct virtio_scsi_event));
    le32_store(to + offsetof(struct virtio_scsi_config, sense_size), hba->sense_bytes);
    le32_store(to + offsetof(struct virtio_scsi_config, cdb_size), hba->cdb_bytes);
    le16_store(to + offsetof(struct virtio_scsi_config, max_channel), 0);
    le16_store(to + offsetof(struct virtio_scsi_config, max_target), SCSI_TARGETS_MAX - 1);
    le32_store(to + offsetof(struct virtio_scsi_config, max_lun), SCSI_LUNS_MAX - 1);
}

MAIN_LOOP
static void op_config_read(void *device, uint32_t offset, uint32_t bytes, uint8_t *to)
{
    uint8_t config[sizeof(struct virtio_scsi_config)] = {0};

    config_encode(device, config);
    memset(to, 0, bytes);
    if (offset < sizeof(config)) {
        memcpy(to, config + offset, min_of(bytes, sizeof(config) - offset));
    }
}

/* Drivers may write sense_size and cdb_size (5.6.4.1), for queues that start afterwards. */
MAIN_LOOP
static int op_config_write(void *device, uint32_t offset, uint32_t bytes, const uint8_t *from)
{
    struct hba *hba = device;
    uint8_t before[sizeof(struct virtio_scsi_config)] = {0};
    uint8_t after[sizeof(before)];
    uint32_t sense_bytes;
    uint32_t cdb_bytes;

    if (offset > sizeof(after) || bytes > sizeof(after) - offset) {
        return -EINVAL;
    }
    config_encode(hba, before);
    memcpy(after, before, sizeof(after));
    memcpy(after + offset, from, bytes);
    sense_bytes = le32_load(after + offsetof(struct virtio_scsi_config, sense_size));
    cdb_bytes = le32_load(after + offsetof(struct virtio_scsi_config, cdb_size));
    memcpy(before + offsetof(struct virtio_scsi_config, sense_size),
           after + offsetof(struct virtio_scsi_config, sense_size), 8);
    if (memcmp(before, after, sizeof(after)) != 0 || sense_bytes > VIRTIO_SCSI_SENSE_BYTES_MAX ||
        cdb_bytes == 0 || cdb_bytes > HBA_CDB_BYTES_MAX) {
        return -EINVAL;
    }
    hba->sense_bytes = sense_bytes;
    hba->cdb_bytes = cdb_bytes;
    return 0;
}

MAIN_LOOP
static void op_set_features(void *device, uint64_t features)
{
    struct hba *hba = device;

    at_store(&hba->features, features);
}

MAIN_LOOP CO_FN
static int op_queue_start(void *device, unsigned index, const struct virtio_queue_setup *setup,
                          struct guest_memory *memory, struct err **reterr)
{
    struct hba *hba = device;

    assert(index < hba->queue_count);
    return hba_queue_co_start(&hba->queues[index], setup, memory, reterr);
}

MAIN_LOOP CO_FN
static int op_queue_stop(void *device, unsigned index, uint32_t *ret_base)
{
    struct hba *hba = device;

    assert(index < hba->queue_count);
    return hba_queue_co_stop(&hba->queues[index], ret_base);
}

MAIN_LOOP CO_FN
static void op_queue_abandon(void *device, unsigned index)
{
    struct hba *hba = device;

    assert(index < hba->queue_count);
    hba_queue_co_abandon(&hba->queues[index]);
}

struct memory_change {
    struct guest_memory *memory;
    uint32_t failed; /* atomic: queues whose rings are not in it */
};

HOME_LOOP
static void memory_step(struct hba_queue *queue, void *opaque)
{
    struct memory_change *change = opaque;
    struct err *error = NULL;

    if (queue->ring != NULL && virtq_set_memory(queue->ring->vq, change->memory, &error) < 0) {
        hba_ring_break(queue->ring, "%s", error->text);
        err_free(error);
        at_add(&change->failed, 1);
    }
}

MAIN_LOOP CO_FN
static int op_set_memory(void *device, struct guest_memory *memory, struct err **reterr)
{
    struct memory_change change = {.memory = memory};

    hba_co_round(device, memory_step, &change);
    if (change.failed > 0) {
        return err_set(reterr, EINVAL, "%u running rings lie outside the new memory table",
                       change.failed);
    }
    return 0;
}

MAIN_LOOP CO_FN
static void op_queue_set_call(void *device, unsigned index, int call_fd)
{
    struct hba *hba = device;

    loop_assert_home(hba_queue_co_enter(&hba->queues[index]));
    if (hba->queues[index].ring != NULL) {
        hba->queues[index].ring->call_fd = call_fd;
        hba_ring_call(hba->queues[index].ring); /* the old one's may have gone unheard */
    }
    loop_co_move(loop_main());
}

MAIN_LOOP CO_FN
static void op_queue_set_err(void *device, unsigned index, int err_fd)
{
    struct hba *hba = device;

    loop_assert_home(hba_queue_co_enter(&hba->queues[index]));
    if (hba->queues[index].ring != NULL) {
        hba->queues[index].ring->err_fd = err_fd;
    }
    loop_co_move(loop_main());
}

MAIN_LOOP CO_FN
static void op_queue_set_enabled(void *device, unsigned index, bool enabled)
{
    struct hba *hba = device;

    loop_assert_home(hba_queue_co_enter(&hba->queues[index]));
    if (hba->queues[index].ring != NULL) {
        hba_ring_set_enabled(hba->queues[index].ring, enabled);
    }
    loop_co_move(loop_main());
}

HOME_LOOP
static void reset_step(struct hba_queue *queue, void *opaque)
{
    (void)opaque;
    if (queue->kind == &hba_event_kind) {
        hba_events_forget(queue->hba);
    }
}

MAIN_LOOP CO_FN
static void op_reset(void *device)
{
    struct hba *hba = device;
    struct hba_lun *lun;

    hba->sense_bytes = VIRTIO_SCSI_SENSE_BYTES;
    hba->cdb_bytes = VIRTIO_SCSI_CDB_BYTES;
    at_store(&hba->features, 0);
    list_for_each(lun, &hba->luns, hba_link) {
        scsi_port_raise_ua(lun->slot.port, SCSI_UA_POWER_ON);
    }
    hba_co_round(hba, reset_step, NULL);
    hba_fence_former_requests(hba);
}

const struct virtio_device_ops hba_virtio_ops = {
    .type = "vhost-user-scsi",
    .features = UINT64_C(1) << VIRTIO_SCSI_F_HOTPLUG | UINT64_C(1) << VIRTIO_SCSI_F_CHANGE |
                UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
                UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_F_VERSION_1,
    .queue_count = op_queue_count,
    .config_read = op_config_read,
    .config_write = op_config_write,
    .set_features = op_set_features,
    .co_queue_start = op_queue_start,
    .co_queue_stop = op_queue_stop,
    .co_queue_abandon = op_queue_abandon,
    .co_set_memory = op_set_memory,
    .co_queue_set_call = op_queue_set_call,
    .co_queue_set_err = op_queue_set_err,
    .co_queue_set_enabled = op_queue_set_enabled,
    .co_reset = op_reset,
};

/* ---- LUNs --------------------------------------------------------------------------------- */

ANY_THREAD
static bool has_feature(const struct hba *hba, unsigned bit)
{
    return (at_load(&hba->features) >> bit & 1) != 0;
}

void hba_lun_init(struct hba_lun *lun, struct hba *hba, struct blk_root *root,
                  struct scsi_port *port, uint8_t target, uint16_t number)
{
    lun->slot.target = target;
    lun->slot.lun = number;
    lun->slot.port = port;
    lun->hba = hba;
    lun->root = root;
    lun->serial = ++lun_serials;
    list_init(&lun->hba_link);
    list_init(&lun->nexus_link);
    lun->fenced = false;
    co_queue_init(&lun->unfenced);
}

int hba_lun_publish(struct hba_lun *lun)
{
    int rc;

    if (!list_is_linked(&lun->hba->link)) {
        return -ENODEV; /* closed while the drive was being attached */
    }
    rc = scsi_table_publish(lun->hba->table, &lun->slot);
    if (rc == 0) {
        list_add_tail(&lun->hba->luns, &lun->hba_link);
    }
    return rc;
}

/* The target's list of LUNs has changed: its other LUNs say so (SPC-5 6.33). Other targets' lists
 * are their own. */
MAIN_LOOP
static void target_changed(struct hba *hba, uint8_t target, const struct hba_lun *but)
{
    struct hba_lun *lun;

    list_for_each(lun, &hba->luns, hba_link) {
        if (lun->slot.target == target && lun != but) {
            scsi_port_raise_ua(lun->slot.port, SCSI_UA_REPORTED_LUNS_CHANGED);
        }
    }
}

MAIN_LOOP
static void send_transport_reset(struct hba *hba, uint8_t target, uint16_t number, uint32_t reason)
{
    if (has_feature(hba, VIRTIO_SCSI_F_HOTPLUG)) { /* 5.6.6.3.2: not unless negotiated */
        hba_event_send(hba, VIRTIO_SCSI_T_TRANSPORT_RESET, target, number, reason);
    }
}

void hba_lun_announce(struct hba_lun *lun)
{
    target_changed(lun->hba, lun->slot.target, lun);
    send_transport_reset(lun->hba, lun->slot.target, lun->slot.lun, VIRTIO_SCSI_EVT_RESET_RESCAN);
}

void hba_lun_unpublish(struct hba_lun *lun)
{
    scsi_table_unpublish(lun->hba->table, &lun->slot);
    list_remove(&lun->hba_link);
}

void hba_lun_announce_gone(struct hba *hba, uint8_t target, uint16_t number)
{
    target_changed(hba, target, NULL);
    send_transport_reset(hba, target, number, VIRTIO_SCSI_EVT_RESET_REMOVED);
}

void hba_lun_resized(struct hba_lun *lun)
{
    scsi_port_raise_ua(lun->slot.port, SCSI_UA_CAPACITY_CHANGED);
    if (has_feature(lun->hba, VIRTIO_SCSI_F_CHANGE)) { /* reason: ASC, ASCQ of the unit attention */
        hba_event_send(lun->hba, VIRTIO_SCSI_T_PARAM_CHANGE, lun->slot.target, lun->slot.lun,
                       0x2a | 0x09 << 8);
    }
}

/* ---- for people --------------------------------------------------------------------------- */

/* "hba0 queue 3: WRITE(10) lba 2048 blocks 8, target 0 lun 2, parked, for 12.0 s" */
MAIN_LOOP
static void describe_slot(const struct hba_ring *ring, const struct hba_slot *slot,
                          json_t *to_array)
{
    const struct hba_view *view = &slot->view;
    uint32_t state = at_load_relaxed(&view->state); /* these six: (Q4) */
    uint32_t address = at_load_relaxed(&view->address);
    uint64_t started_ns = at_load_relaxed(&view->started_ns);
    uint64_t age_ns = loop_now_ns(LOOP_CLOCK_MONOTONIC) - started_ns;
    char text[SCSI_DESCRIPTION_BYTES_MAX] = "task management";
    uint8_t cdb[SCSI_CDB_BYTES_MAX] = {0};
    AUTO_MEM char *line = NULL;

    be64_store(cdb, at_load_relaxed(&view->cdb[0]));
    be64_store(cdb + 8, at_load_relaxed(&view->cdb[1]));
    if (ring->queue->kind == &hba_request_kind) {
        scsi_cmd_describe(cdb, text, sizeof(text));
    }
    line = str_format("%s queue %u: %s, target %u lun %u, %s for %" PRIu64 ".%" PRIu64 " s",
                      ring->queue->hba->id, ring->queue->index, text, address >> 16,
                      address & 0xffff, state == HBA_REQUEST_PARKED ? "parked" : "running",
                      age_ns / 1000000000, age_ns / 100000000 % 10);
    json_array_append_new(to_array, json_string(line));
}

MAIN_LOOP
static void describe_ring(const struct hba_ring *ring, const struct hba_lun *lun, json_t *to_array)
{
    unsigned used = at_load_acquire(&ring->slots_used); /* pairs with slot_take() */

    for (unsigned i = 0; i < used; i++) {
        const struct hba_slot *slot =
            (const void *)(ring->slots + i * ring->queue->kind->slot_bytes);

        if (at_load_relaxed(&slot->view.state) != HBA_REQUEST_FREE && /* (Q4) */
            (lun == NULL || at_load_relaxed(&slot->view.lun_serial) == lun->serial)) {
            describe_slot(ring, slot, to_array);
        }
    }
}

void hba_describe_requests_of(struct hba *hba, const struct hba_lun *lun, json_t *to_array)
{
    const struct hba_ring *ring;

    list_for_each(ring, &hba->rings, hba_link) {
        describe_ring(ring, lun, to_array);
    }
}

void hba_describe_requests(struct hba *hba, json_t *to_array)
{
    hba_describe_requests_of(hba, NULL, to_array);
}
