/*
 * bench_session.c -- a session with a back end: connection, one piece of shared memory, rings.
 *
 * Memory, each part on pages of its own: for every queue its ring, the headers and tables of its
 * slots, then their data. A header's place holds what the device reads at 0, the answer at 128 and
 * the indirect table at 256.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "cli/bench_int.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/socket.h"
#include "os/time.h"
#include "virtio/scsi_proto.h"
#include "virtio/virtq.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    PAGE = 4096,
    HEADER_OUT = 0,
    HEADER_IN = 128,
    HEADER_TABLE = 256,
    HEADER_BYTES = 512,
    OTHER_RING_SIZE = 16,
    EVENT_BUFFERS = 8,
};
static_assert(sizeof(struct virtio_scsi_cmd_req) <= HEADER_IN, "fits");
static_assert(sizeof(struct virtio_scsi_cmd_resp) <= HEADER_TABLE - HEADER_IN, "fits");

/* Anything but 0, so that a back end that forgets to translate is found out. */
static const uint64_t guest_base = UINT64_C(0x100000000);

static bool has_feature(const struct bench *bench, unsigned bit)
{
    return (bench->features >> bit & 1) != 0;
}

/* ---- memory -------------------------------------------------------------------------------- */

static uint64_t data_stride(const struct bench *bench)
{
    return align_up(max_of(bench->options.block_bytes, (uint64_t)BENCH_SYNC_BYTES), PAGE);
}

static uint64_t queue_bytes(const struct bench *bench)
{
    return ring_driver_layout(bench->ring_size).bytes +
           align_up((uint64_t)bench->options.depth * HEADER_BYTES, PAGE) +
           bench->options.depth * data_stride(bench);
}

static uint64_t other_bytes(void)
{
    return ring_driver_layout(OTHER_RING_SIZE).bytes + PAGE;
}

static uint64_t guest_address(const struct bench *bench, const void *at)
{
    return guest_base + (uint64_t)((const uint8_t *)at - bench->memory);
}

BLOCKING
static int make_memory(struct bench *bench, struct err **reterr)
{
    void *address;
    int rc;

    bench->memory_bytes = bench->target->other_queues * other_bytes() +
                          bench->options.queues * queue_bytes(bench);
    bench->memory_fd = os_memfd("caisson-bench", bench->memory_bytes);
    if (bench->memory_fd < 0) {
        return err_set_errno(reterr, -bench->memory_fd, "shared memory of %" PRIu64 " bytes",
                             bench->memory_bytes);
    }
    rc = os_map_shared(bench->memory_fd, 0, bench->memory_bytes, &address);
    if (rc < 0) {
        return err_set_errno(reterr, -rc, "shared memory of %" PRIu64 " bytes",
                             bench->memory_bytes);
    }
    bench->memory = address;
    return 0;
}

BLOCKING
static int share_memory(struct bench *bench, struct err **reterr)
{
    struct guest_region_def region = {
        .guest_address = guest_base,
        .bytes = bench->memory_bytes,
        .user_address = (uint64_t)(uintptr_t)bench->memory,
        .fd = bench->memory_fd,
    };
    return vu_front_set_memory(bench->front, &region, 1, reterr);
}

/* ---- slots --------------------------------------------------------------------------------- */

void bench_slot_build(struct bench_slot *slot, uint32_t out_bytes, uint32_t in_bytes,
                      enum bench_data data, uint32_t data_bytes)
{
    struct {
        uint64_t guest;
        uint32_t bytes;
        uint16_t flags;
    } parts[BENCH_SLOT_DESCS] = {{slot->out_guest, out_bytes, 0}};
    unsigned count = 1;

    if (data_bytes > 0 && data != BENCH_DATA_IN_AFTER) {
        parts[count].guest = slot->data_guest;
        parts[count].bytes = data_bytes;
        parts[count++].flags = data == BENCH_DATA_OUT ? 0 : RING_DESC_F_WRITE;
    }
    parts[count].guest = slot->in_guest;
    parts[count].bytes = in_bytes;
    parts[count++].flags = RING_DESC_F_WRITE;
    if (data_bytes > 0 && data == BENCH_DATA_IN_AFTER) {
        parts[count].guest = slot->data_guest;
        parts[count].bytes = data_bytes;
        parts[count++].flags = RING_DESC_F_WRITE;
    }
    for (unsigned i = 0; i < count; i++) {
        bool more = i + 1 < count;

        ring_desc_set(&slot->chain[i], parts[i].guest, parts[i].bytes,
                      (uint16_t)(parts[i].flags | (more ? RING_DESC_F_NEXT : 0)),
                      more ? (uint16_t)(slot->chain_first + i + 1) : 0);
    }
    if (slot->head_desc != NULL) {
        ring_desc_set(slot->head_desc, slot->table_guest,
                      count * (uint32_t)sizeof(struct ring_desc), RING_DESC_F_INDIRECT, 0);
    }
}

static void init_slot(struct bench_queue *queue, unsigned i, uint8_t *headers, uint8_t *data)
{
    struct bench *bench = queue->bench;
    struct bench_slot *slot = &queue->slots[i];
    uint8_t *header = headers + (size_t)i * HEADER_BYTES;

    slot->out = header + HEADER_OUT;
    slot->in = header + HEADER_IN;
    slot->data = data + i * data_stride(bench);
    slot->out_guest = guest_address(bench, slot->out);
    slot->in_guest = guest_address(bench, slot->in);
    slot->data_guest = guest_address(bench, slot->data);
    if (has_feature(bench, VIRTIO_RING_F_INDIRECT_DESC)) {
        slot->chain = (struct ring_desc *)(void *)(header + HEADER_TABLE);
        slot->table_guest = guest_address(bench, slot->chain);
        slot->head = (uint16_t)i;
        slot->head_desc = &queue->driver.desc[i];
    } else {
        slot->head = slot->chain_first = (uint16_t)(i * BENCH_SLOT_DESCS);
        slot->chain = &queue->driver.desc[slot->head];
    }
    bench_stamp(slot->data, bench->options.block_bytes, i, bench->options.seed, 0);
    queue->free_slots[i] = i;
}

static void init_queue(struct bench *bench, unsigned index)
{
    struct bench_queue *queue = &bench->queues[index];
    uint32_t depth = bench->options.depth;
    uint8_t *start = bench->memory + bench->target->other_queues * other_bytes() +
                     index * queue_bytes(bench);
    uint8_t *headers = start + ring_driver_layout(bench->ring_size).bytes;
    uint8_t *data = headers + align_up((uint64_t)depth * HEADER_BYTES, PAGE);

    queue->bench = bench;
    queue->index = index;
    queue->kick_fd = os_eventfd();
    queue->random = bench->options.seed * UINT64_C(0x9e3779b97f4a7c15) + index + 1;
    queue->slots = mem_alloc_array(depth, sizeof(*queue->slots));
    queue->free_slots = mem_alloc_array(depth, sizeof(*queue->free_slots));
    queue->free_count = depth;
    ring_driver_init(&queue->driver, start, bench->ring_size,
                     has_feature(bench, VIRTIO_RING_F_EVENT_IDX));
    for (unsigned i = 0; i < depth; i++) {
        init_slot(queue, i, headers, data);
    }
}

/* ---- rings --------------------------------------------------------------------------------- */

BLOCKING
static int start_ring(struct bench *bench, unsigned index, const struct ring_driver *driver,
                      int kick_fd, int call_fd, struct err **reterr)
{
    struct vu_front_ring ring = {
        .size = driver->size,
        .desc_user = (uint64_t)(uintptr_t)driver->desc,
        .avail_user = (uint64_t)(uintptr_t)driver->avail,
        .used_user = (uint64_t)(uintptr_t)driver->used,
        .kick_fd = kick_fd,
        .call_fd = call_fd,
    };
    return vu_front_ring_start(bench->front, index, &ring, reterr);
}

/* SCSI's control queue, idle, and its event queue, with buffers: as a guest has them. */
BLOCKING
static int start_other(struct bench *bench, unsigned index, struct err **reterr)
{
    struct ring_driver *driver = &bench->other[index];
    uint8_t *start = bench->memory + index * other_bytes();
    uint8_t *events = start + ring_driver_layout(OTHER_RING_SIZE).bytes;

    ring_driver_init(driver, start, OTHER_RING_SIZE, has_feature(bench, VIRTIO_RING_F_EVENT_IDX));
    if (index == VIRTIO_SCSI_EVENT_QUEUE) {
        for (uint16_t i = 0; i < EVENT_BUFFERS; i++) {
            ring_desc_set(&driver->desc[i],
                          guest_address(bench, events + i * sizeof(struct virtio_scsi_event)),
                          sizeof(struct virtio_scsi_event), RING_DESC_F_WRITE, 0);
            ring_driver_offer(driver, i);
        }
        (void)ring_driver_publish(driver);
    }
    bench->other_fds[index] = os_eventfd();
    return start_ring(bench, index, driver, bench->other_fds[index], bench->other_fds[index],
                      reterr);
}

BLOCKING
static int start_rings(struct bench *bench, struct err **reterr)
{
    unsigned threads = bench->options.threads;
    int rc = 0;

    for (unsigned i = 0; i < bench->target->other_queues && rc == 0; i++) {
        rc = start_other(bench, i, reterr);
    }
    for (unsigned i = 0; i < bench->options.queues && rc == 0; i++) {
        struct bench_queue *queue = &bench->queues[i];

        queue->call_fd = i < threads ? os_eventfd() : bench->queues[i % threads].call_fd;
        rc = start_ring(bench, bench->target->other_queues + i, &queue->driver, queue->kick_fd,
                        queue->call_fd, reterr);
    }
    return rc;
}

/* ---- open and close ------------------------------------------------------------------------ */

static int choose_ring_size(struct bench *bench, struct err **reterr)
{
    uint64_t needed = bench->options.depth;
    uint32_t size = bench->options.queue_size;

    if (!has_feature(bench, VIRTIO_RING_F_INDIRECT_DESC)) {
        needed *= BENCH_SLOT_DESCS;
    }
    if (size == 0) {
        for (size = 128; size < needed; size *= 2) {
        }
    }
    if (size < needed || size > VIRTQ_SIZE_MAX || !is_power_of_two(size)) {
        return err_set(reterr, EINVAL, "a ring of %" PRIu32 " descriptors cannot hold depth %"
                       PRIu32 " (a power of two from %" PRIu64 " to %d is needed)", size,
                       bench->options.depth, needed, VIRTQ_SIZE_MAX);
    }
    bench->ring_size = (uint16_t)size;
    return 0;
}

BLOCKING
static int agree_features(struct bench *bench, struct err **reterr)
{
    uint64_t wanted = bench->target->features | UINT64_C(1) << VIRTIO_F_VERSION_1;
    uint64_t most = vu_front_queues_max(bench->front);

    if (bench->options.event_idx) {
        wanted |= UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX;
    }
    if (bench->options.indirect) {
        wanted |= UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC;
    }
    bench->features = wanted & vu_front_offered(bench->front);
    if (!has_feature(bench, VIRTIO_F_VERSION_1)) {
        return err_set(reterr, EOPNOTSUPP, "the back end does not offer VIRTIO_F_VERSION_1");
    }
    if (most != 0 && bench->target->other_queues + bench->options.queues > most) {
        return err_set(reterr, EINVAL, "--queues %" PRIu32 ": the back end has %" PRIu64
                       " request queue%s", bench->options.queues,
                       most - min_of(most, (uint64_t)bench->target->other_queues),
                       most - bench->target->other_queues == 1 ? "" : "s");
    }
    return vu_front_set_features(bench->front, bench->features, reterr);
}

int bench_session_open(struct bench *bench, struct err **reterr)
{
    int rc = vu_front_new(bench->path, bench->options.timeout_ns, &bench->front, reterr);

    bench->memory_fd = -1;
    bench->other_fds[0] = bench->other_fds[1] = -1;
    if (rc == 0) {
        rc = agree_features(bench, reterr);
    }
    if (rc == 0) {
        rc = choose_ring_size(bench, reterr);
    }
    if (rc == 0) {
        rc = make_memory(bench, reterr);
    }
    if (rc < 0) {
        return rc;
    }
    bench->queues = mem_alloc_array(bench->options.queues, sizeof(*bench->queues));
    for (unsigned i = 0; i < bench->options.queues; i++) {
        bench->queues[i].call_fd = -1;
        init_queue(bench, i);
    }
    rc = share_memory(bench, reterr);
    return rc < 0 ? rc : start_rings(bench, reterr);
}

static void close_queue(struct bench *bench, unsigned i)
{
    struct bench_queue *queue = &bench->queues[i];

    (void)os_close_now(queue->kick_fd);
    if (i < bench->options.threads && queue->call_fd >= 0) {
        (void)os_close_now(queue->call_fd);
    }
    mem_free(queue->slots);
    mem_free(queue->free_slots);
    mem_free(queue->generations);
    mem_free(queue->busy);
}

void bench_session_close(struct bench *bench)
{
    vu_front_free(take(&bench->front)); /* the back end lets go of memory and rings */
    for (unsigned i = 0; bench->queues != NULL && i < bench->options.queues; i++) {
        close_queue(bench, i);
    }
    for (unsigned i = 0; i < bench->target->other_queues; i++) {
        if (bench->other_fds[i] >= 0) {
            (void)os_close_now(bench->other_fds[i]);
        }
    }
    if (bench->memory != NULL) {
        os_unmap(bench->memory, bench->memory_bytes);
    }
    if (bench->memory_fd >= 0) {
        (void)os_close_now(bench->memory_fd);
    }
    mem_free(bench->queues);
    mem_free(bench->description);
}

/* ---- one command --------------------------------------------------------------------------- */

/* Sleeps for the call or for the back end to leave, whichever is first to be noticed. */
BLOCKING
static int wait_for_call(struct bench *bench, int call_fd, uint64_t deadline_ns,
                         struct err **reterr)
{
    enum { SLICE_NS = 20000000 };
    uint64_t now = os_now_monotonic_ns();

    if (os_fd_wait(vu_front_fd(bench->front), OS_FD_IN, 0) != 0) {
        return err_set(reterr, ENOTCONN, "the back end has closed the connection");
    }
    if (now >= deadline_ns) {
        return err_set(reterr, ETIMEDOUT, "a request was not answered in %" PRIu64 " s",
                       bench->options.timeout_ns / 1000000000);
    }
    (void)os_fd_wait(call_fd, OS_FD_IN, min_of(deadline_ns - now, (uint64_t)SLICE_NS));
    (void)os_eventfd_clear(call_fd);
    return 0;
}

int bench_session_do(struct bench *bench, uint32_t *ret_written, struct err **reterr)
{
    struct bench_queue *queue = &bench->queues[0];
    uint64_t deadline_ns = os_now_monotonic_ns() + bench->options.timeout_ns;
    int head;

    ring_driver_offer(&queue->driver, queue->slots[0].head);
    (void)ring_driver_want_call(&queue->driver, true);
    if (ring_driver_publish(&queue->driver)) {
        os_eventfd_signal(queue->kick_fd);
    }
    while ((head = ring_driver_take(&queue->driver, ret_written)) == -EAGAIN) {
        int rc = wait_for_call(bench, queue->call_fd, deadline_ns, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    if (head != queue->slots[0].head) {
        return err_set(reterr, EPROTO, "the back end returned descriptor %d, not %u", head,
                       queue->slots[0].head);
    }
    return 0;
}
