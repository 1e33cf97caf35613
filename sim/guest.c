/*
 * guest.c -- what the simulated guest does, and what it knows of its disk.
 *
 * (V1) Of each block it knows the generation it must hold. A write whose end is not known (aborted,
 *      failed, under way when the connection ended) leaves several possible ones; the next read
 *      settles it.
 * (V2) Requests under way never overlap, so what a read must find does not depend on their order.
 * (V3) Each answer is complete: the response byte, preset to 0xff, and the whole of a read's data,
 *      preset to rubbish, have been written.
 */
#include "sim/guest.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "sim/guest_int.h"
#include "sim/sim.h"
#include <string.h>

enum { POSSIBLE_MAX = 24, CONTROL = 0, EVENTS = 1, FIRST = 2, STAMP_BYTES = 16 };
enum { STATUS_GOOD = 0, STATUS_CHECK = 2, STATUS_BUSY = 8, STATUS_FULL = 0x28 };
enum {
    KEY_MEDIUM_ERROR = 3,
    KEY_HARDWARE_ERROR = 4,
    KEY_UNIT_ATTENTION = 6,
    KEY_DATA_PROTECT = 7, /* SPACE ALLOCATION FAILED WRITE PROTECT: no room */
    KEY_ABORTED = 0xb,
};

struct block {
    uint64_t possible[POSSIBLE_MAX]; /* (V1); 0: never written, zeroes */
    unsigned count;
    bool is_busy; /* (V2) */
};

struct guest {
    const struct guest_config *config;
    struct guest_link link;
    struct guest_report report;
    struct block *blocks;
    uint64_t generation;
    unsigned done;      /* requests to the disk */
    unsigned under_way; /* but for event buffers */
    bool is_draining;   /* sends nothing new */
};

static uint64_t below(uint64_t limit)
{
    return sim_random() % limit;
}

/* ---- what blocks hold ---- */

static void stamp(uint8_t *data, uint64_t block, uint64_t generation)
{
    for (unsigned i = 0; i < GUEST_BLOCK_BYTES; i += STAMP_BYTES) {
        le64_store(data + i, generation == 0 ? 0 : block);
        le64_store(data + i + 8, generation);
    }
}

static void check_block(struct guest *guest, const uint8_t *data, uint64_t number)
{
    struct block *block = &guest->blocks[number];
    uint8_t expected[GUEST_BLOCK_BYTES];

    for (unsigned i = 0; i < block->count; i++) {
        stamp(expected, number, block->possible[i]);
        if (memcmp(data, expected, sizeof(expected)) == 0) {
            block->possible[0] = block->possible[i];
            block->count = 1;
            guest->report.verified++;
            return;
        }
    }
    panic("guest: block %d holds generation %d (of block %d); due was one of %u, the first %d",
          (int)number, (int)le64_load(data + 8), (int)le64_load(data), block->count,
          (int)block->possible[0]);
}

static void settle_write(struct guest *guest, const struct guest_slot *slot, bool is_known)
{
    for (uint64_t i = slot->block; i < slot->block + slot->count; i++) {
        struct block *block = &guest->blocks[i];

        if (is_known) {
            block->count = 0;
        }
        if (block->count == POSSIBLE_MAX) {
            panic("guest: nobody has read block %d for too long", (int)i);
        }
        block->possible[block->count++] = slot->generation;
    }
}

static void release_blocks(struct guest *guest, const struct guest_slot *slot)
{
    for (uint64_t i = slot->block; i < slot->block + slot->count; i++) {
        guest->blocks[i].is_busy = false;
    }
}

/* A stretch with nothing under way; false: chance found none. A stretch with a doubtful block is
 * read. */
static bool choose_blocks(struct guest *guest, struct guest_slot *slot, bool *ret_must_read)
{
    slot->count = 1 + below(GUEST_DATA_BYTES / GUEST_BLOCK_BYTES);
    slot->block = below(guest->config->blocks - slot->count + 1);
    *ret_must_read = false;
    for (uint64_t i = slot->block; i < slot->block + slot->count; i++) {
        if (guest->blocks[i].is_busy) {
            return false;
        }
        *ret_must_read |= guest->blocks[i].count > POSSIBLE_MAX / 2;
    }
    for (uint64_t i = slot->block; i < slot->block + slot->count; i++) {
        guest->blocks[i].is_busy = true;
    }
    return true;
}

/* ---- sending ---- */

static void set_lun(uint8_t *lun, unsigned target, unsigned number)
{
    memset(lun, 0, VIRTIO_SCSI_LUN_BYTES);
    lun[0] = 1;
    lun[1] = (uint8_t)target;
    lun[2] = (uint8_t)(0x40 | number >> 8);
    lun[3] = (uint8_t)number;
}

static struct virtio_scsi_cmd_req *begin_command(struct guest_slot *slot, unsigned target,
                                                 unsigned lun)
{
    struct virtio_scsi_cmd_req *request = (void *)slot->out;

    memset(request, 0, sizeof(*request));
    set_lun(request->lun, target, lun);
    le64_store(request->id, sim_random());
    return request;
}

static void send_command(struct guest *guest, struct guest_ring *ring, struct guest_slot *slot,
                         enum guest_data data)
{
    guest_send(&guest->link, ring, slot, sizeof(struct virtio_scsi_cmd_req),
               sizeof(struct virtio_scsi_cmd_resp), data);
}

/* Also to send the same once more. */
static void send_transfer(struct guest *guest, struct guest_ring *ring, struct guest_slot *slot)
{
    bool is_write = slot->kind == GUEST_WRITE;
    struct virtio_scsi_cmd_req *request = begin_command(slot, 0, guest->config->lun);

    request->cdb[0] = is_write ? 0x8a : 0x88; /* WRITE(16), READ(16) */
    be64_store(request->cdb + 2, slot->block);
    be32_store(request->cdb + 10, (uint32_t)slot->count);
    slot->data_bytes = (uint32_t)slot->count * GUEST_BLOCK_BYTES;
    memset(slot->data, 0xee, slot->data_bytes); /* (V3) */
    for (uint64_t i = 0; is_write && i < slot->count; i++) {
        stamp(slot->data + i * GUEST_BLOCK_BYTES, slot->block + i, slot->generation);
    }
    send_command(guest, ring, slot, is_write ? GUEST_DATA_OUT : GUEST_DATA_IN);
}

static bool send_new_transfer(struct guest *guest, struct guest_ring *ring,
                              struct guest_slot *slot)
{
    bool must_read;

    if (!choose_blocks(guest, slot, &must_read)) {
        return false;
    }
    slot->kind = must_read || below(2) ? GUEST_READ : GUEST_WRITE;
    slot->generation = ++guest->generation;
    send_transfer(guest, ring, slot);
    return true;
}

/* Something to an address where there may be nothing, or soon nothing more. */
static void send_other(struct guest *guest, struct guest_ring *ring, struct guest_slot *slot)
{
    static const struct {
        uint8_t opcode, allocation_at;
        enum guest_data data;
    } commands[] = {
        {0x00, 0, GUEST_DATA_NONE}, /* TEST UNIT READY */
        {0x12, 3, GUEST_DATA_IN},   /* INQUIRY; its length has two bytes */
        {0xa0, 6, GUEST_DATA_IN},   /* REPORT LUNS */
        {0x25, 0, GUEST_DATA_IN},   /* READ CAPACITY(10) */
        {0x35, 0, GUEST_DATA_NONE}, /* SYNCHRONIZE CACHE(10) */
        {0x28, 0, GUEST_DATA_IN},   /* READ(10) of block 0, one block */
        {0xff, 0, GUEST_DATA_NONE}, /* none */
    };
    uint64_t pick = below(countof(commands));
    unsigned lun = (guest->config->lun + 1 + (unsigned)below(4)) % 5;
    struct virtio_scsi_cmd_req *request = begin_command(slot, below(8) == 0, lun);

    slot->kind = GUEST_OTHER;
    slot->data_bytes = GUEST_BLOCK_BYTES;
    request->cdb[0] = commands[pick].opcode;
    if (commands[pick].allocation_at == 6) {
        be32_store(request->cdb + 6, GUEST_BLOCK_BYTES);
    } else if (commands[pick].allocation_at == 3) {
        be16_store(request->cdb + 3, 255);
    } else if (commands[pick].opcode == 0x28) {
        be16_store(request->cdb + 7, 1);
    }
    send_command(guest, ring, slot, commands[pick].data);
}

static void send_tmf(struct guest *guest, struct guest_slot *slot)
{
    static const uint32_t kinds[] = {VIRTIO_SCSI_T_TMF_ABORT_TASK,
                                     VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET};
    struct virtio_scsi_tmf_req *request = (void *)slot->out;

    memset(request, 0, sizeof(*request));
    le32_store(&request->type, VIRTIO_SCSI_T_TMF);
    le32_store(&request->subtype, kinds[below(countof(kinds))]);
    set_lun(request->lun, 0, below(2) ? guest->config->lun : (unsigned)below(4));
    if (guest->link.rings[FIRST].slots[0].kind != GUEST_IDLE) {
        memcpy(request->id, guest->link.rings[FIRST].slots[0].out + 8, sizeof(request->id));
    }
    slot->kind = GUEST_TMF;
    slot->data_bytes = 0;
    guest_send(&guest->link, &guest->link.rings[CONTROL], slot, sizeof(*request), 1,
               GUEST_DATA_NONE);
}

static void offer_event_buffer(struct guest *guest, struct guest_slot *slot)
{
    slot->kind = GUEST_EVENT;
    slot->data_bytes = 0;
    guest_send(&guest->link, &guest->link.rings[EVENTS], slot, 0, sizeof(struct virtio_scsi_event),
               GUEST_DATA_NONE);
}

static void fill_ring(struct guest *guest, struct guest_ring *ring)
{
    uint64_t most = 1 + below(GUEST_SLOTS);

    for (unsigned i = 0; i < most; i++) {
        struct guest_slot *slot = &ring->slots[i];

        if (slot->kind != GUEST_IDLE) {
            continue;
        }
        if (below(4) == 0) {
            send_other(guest, ring, slot);
        } else if (!send_new_transfer(guest, ring, slot)) {
            continue;
        }
        guest->under_way++;
    }
    guest_kick(ring);
}

static void send_something(struct guest *guest)
{
    struct guest_ring *control = &guest->link.rings[CONTROL];

    for (unsigned i = FIRST; i < guest->link.ring_count; i++) {
        fill_ring(guest, &guest->link.rings[i]);
    }
    if (below(16) == 0 && control->slots[0].kind == GUEST_IDLE) {
        send_tmf(guest, &control->slots[0]);
        guest->under_way++;
        guest_kick(control);
    }
}

/* ---- answers ---- */

enum verdict { GOOD, AGAIN, LOST, UNKNOWN };

static enum verdict judge_sense(struct guest *guest, const struct virtio_scsi_cmd_resp *answer)
{
    bool is_descriptor = (answer->sense[0] & 0x7f) >= 0x72;
    unsigned key = answer->sense[is_descriptor ? 1 : 2] & 0x0f;

    switch (key) {
    case KEY_UNIT_ATTENTION:
        guest->report.unit_attentions++;
        return AGAIN;
    case KEY_ABORTED:
        guest->report.aborted++;
        return LOST;
    case KEY_MEDIUM_ERROR:
    case KEY_HARDWARE_ERROR:
    case KEY_DATA_PROTECT:
        if (guest->config->expects_errors) {
            guest->report.failed++;
            return LOST;
        }
        return UNKNOWN;
    default:
        return UNKNOWN;
    }
}

/* Of a transfer to the disk that stays. */
static enum verdict judge(struct guest *guest, const struct virtio_scsi_cmd_resp *answer)
{
    switch (answer->response) {
    case VIRTIO_SCSI_S_OK:
        break;
    case VIRTIO_SCSI_S_ABORTED:
    case VIRTIO_SCSI_S_RESET:
        guest->report.aborted++;
        return LOST;
    case VIRTIO_SCSI_S_BUSY:
        return AGAIN;
    default:
        return UNKNOWN;
    }
    switch (answer->status) {
    case STATUS_GOOD:
        return le32_load(&answer->residual) == 0 ? GOOD : UNKNOWN;
    case STATUS_BUSY:
    case STATUS_FULL:
        return AGAIN;
    case STATUS_CHECK:
        return judge_sense(guest, answer);
    default:
        return UNKNOWN;
    }
}

static void transfer_is_back(struct guest *guest, struct guest_ring *ring, struct guest_slot *slot)
{
    const struct virtio_scsi_cmd_resp *answer = (const void *)slot->in;
    enum verdict verdict = judge(guest, answer);

    if (verdict == UNKNOWN) {
        panic("guest: response %d, status %02xh, sense %02x %02x %02x … %02x %02x, residual %u",
              answer->response, answer->status, answer->sense[0], answer->sense[1],
              answer->sense[2], answer->sense[12], answer->sense[13],
              le32_load(&answer->residual));
    }
    if (verdict == AGAIN && !guest->is_draining) {
        send_transfer(guest, ring, slot);
        guest_kick(ring);
        return;
    }
    if (slot->kind == GUEST_WRITE) {
        if (verdict != AGAIN) { /* else it was not done */
            settle_write(guest, slot, verdict == GOOD);
        }
        guest->report.writes++;
    } else {
        for (uint64_t i = 0; verdict == GOOD && i < slot->count; i++) {
            check_block(guest, slot->data + i * GUEST_BLOCK_BYTES, slot->block + i);
        }
        guest->report.reads++;
    }
    release_blocks(guest, slot);
    guest->done++;
    guest->under_way--;
    slot->kind = GUEST_IDLE;
}

static void event_is_back(struct guest *guest, struct guest_slot *slot)
{
    guest->report.events++;
    offer_event_buffer(guest, slot);
    guest_kick(&guest->link.rings[EVENTS]);
}

static void slot_is_back(struct guest *guest, struct guest_ring *ring, struct guest_slot *slot,
                         uint32_t written)
{
    uint8_t response = slot->kind == GUEST_TMF ? slot->in[0] : slot->in[11];

    if (slot->kind == GUEST_EVENT) {
        event_is_back(guest, slot);
        return;
    }
    if (response == 0xff || written == 0) { /* (V3) */
        panic("guest: an answer is not there (response %02x, %u bytes)", response, written);
    }
    if (slot->kind == GUEST_READ || slot->kind == GUEST_WRITE) {
        transfer_is_back(guest, ring, slot);
        return;
    }
    guest->report.others++;
    guest->under_way--;
    slot->kind = GUEST_IDLE;
}

static void take_answers(struct guest *guest)
{
    for (unsigned i = 0; i < guest->link.ring_count; i++) {
        struct guest_ring *ring = &guest->link.rings[i];
        struct guest_slot *slot;
        uint32_t written;

        while ((slot = guest_take(ring, &written)) != NULL) {
            slot_is_back(guest, ring, slot, written);
        }
    }
}

/* ---- its life ---- */

static void connect_to_adapter(struct guest *guest)
{
    guest_link_open(&guest->link, guest->config->path, guest->config->queues);
    for (unsigned i = 0; i < GUEST_SLOTS / 2; i++) {
        offer_event_buffer(guest, &guest->link.rings[EVENTS].slots[i]);
    }
    guest_kick(&guest->link.rings[EVENTS]);
    guest->under_way = 0;
    guest->is_draining = false;
}

static void drain(struct guest *guest)
{
    guest->is_draining = true;
    while (guest->under_way > 0) {
        guest_wait(&guest->link, UINT64_MAX);
        take_answers(guest);
    }
}

/* Gone with requests under way: of their writes nothing is known (V1). */
static void forget_requests(struct guest *guest)
{
    for (unsigned r = FIRST; r < guest->link.ring_count; r++) {
        for (unsigned i = 0; i < GUEST_SLOTS; i++) {
            struct guest_slot *slot = &guest->link.rings[r].slots[i];

            if (slot->kind == GUEST_WRITE) {
                settle_write(guest, slot, false);
            }
            if (slot->kind == GUEST_READ || slot->kind == GUEST_WRITE) {
                release_blocks(guest, slot);
            }
        }
    }
}

static void leave(struct guest *guest, bool politely)
{
    if (politely) {
        drain(guest);
        guest_link_stop_rings(&guest->link);
    } else {
        forget_requests(guest);
    }
    guest_link_close(&guest->link);
}

static void work_until(struct guest *guest, unsigned done)
{
    while (guest->done < done) {
        send_something(guest);
        if (below(3) == 0) {
            sim_sleep(below(300000));
        }
        if (guest->under_way > 0) {
            guest_wait(&guest->link, UINT64_MAX);
        }
        take_answers(guest);
    }
}

struct guest_report guest_run(const struct guest_config *config)
{
    struct guest guest = {.config = config};
    unsigned lives = config->restarts + 1;

    guest.blocks = mem_alloc_array(config->blocks, sizeof(*guest.blocks));
    for (uint64_t i = 0; i < config->blocks; i++) {
        guest.blocks[i].count = 1; /* zeroes */
    }
    for (unsigned life = 1; life <= lives; life++) {
        connect_to_adapter(&guest);
        work_until(&guest, config->requests * life / lives);
        leave(&guest, life == lives || life % 2 == 0);
        if (config->away_ns != 0) {
            sim_sleep(config->away_ns);
        }
    }
    mem_free(guest.blocks);
    return guest.report;
}
