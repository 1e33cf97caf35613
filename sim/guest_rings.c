/*
 * guest_rings.c -- how the simulated guest reaches its device: connection, shared memory, rings,
 * kicks and interrupts. Any refusal is a failure of the run.
 */
#include "sim/guest_int.h"
#include "base/checked.h"
#include "os/file.h"
#include "os/memory.h"
#include "sim/sim.h"
#include "virtio/virtq.h"
#include <errno.h>
#include <poll.h>
#include <string.h>

enum { OUT_BYTES = 64, IN_BYTES = 192, PAGE = 4096 };
static const uint64_t guest_base = 1 << 20, timeout_ns = 600ull * 1000000000, retry_ns = 500000;

static void must(int rc, struct err *const *error, const char *what)
{
    if (rc < 0) {
        panic("guest: %s: %s", what,
              error != NULL && *error != NULL ? (*error)->text : strerror(-rc));
    }
}

static uint64_t ring_bytes(void)
{
    return align_up(ring_driver_layout(GUEST_RING_SIZE).bytes, PAGE) +
           align_up(GUEST_SLOTS * (OUT_BYTES + IN_BYTES + GUEST_DATA_BYTES), PAGE);
}

static uint64_t guest_address(const struct guest_link *link, const void *at)
{
    return guest_base + (uint64_t)((const uint8_t *)at - link->memory);
}

static void init_ring(struct guest_link *link, unsigned index)
{
    struct guest_ring *ring = &link->rings[index];
    uint8_t *at = link->memory + index * ring_bytes();

    ring->index = index;
    ring->kick_fd = os_eventfd();
    ring_driver_init(&ring->driver, at, GUEST_RING_SIZE, true);
    at += align_up(ring_driver_layout(GUEST_RING_SIZE).bytes, PAGE);
    for (unsigned i = 0; i < GUEST_SLOTS; i++) {
        ring->slots[i] = (struct guest_slot){.data = at, .head = (uint16_t)(3 * i)};
        at += GUEST_DATA_BYTES;
    }
    for (unsigned i = 0; i < GUEST_SLOTS; i++) {
        ring->slots[i].out = at;
        ring->slots[i].in = at + OUT_BYTES;
        at += OUT_BYTES + IN_BYTES;
    }
}

static void make_memory(struct guest_link *link)
{
    void *address = NULL;

    link->memory_bytes = link->ring_count * ring_bytes();
    link->memory_fd = os_memfd("guest", link->memory_bytes);
    must(link->memory_fd, NULL, "memory");
    must(os_map_shared(link->memory_fd, 0, link->memory_bytes, &address), NULL, "map");
    link->memory = address;
}

static void connect_front(struct guest_link *link, const char *path)
{
    for (;;) {
        struct err *error = NULL;

        if (vu_front_new(path, timeout_ns, &link->front, &error) == 0) {
            return;
        }
        err_free(error);
        sim_sleep(retry_ns);
    }
}

void guest_link_open(struct guest_link *link, const char *path, unsigned queues)
{
    uint64_t features = UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX |
                        UINT64_C(1) << VIRTIO_SCSI_F_HOTPLUG | UINT64_C(1) << VIRTIO_SCSI_F_CHANGE;
    struct err *error = NULL;

    *link = (struct guest_link){.ring_count = 2 + queues, .call_fd = os_eventfd()};
    connect_front(link, path);
    features &= vu_front_offered(link->front);
    must(vu_front_set_features(link->front, features, &error), &error, "features");
    make_memory(link);
    for (unsigned i = 0; i < link->ring_count; i++) {
        init_ring(link, i);
    }
    struct guest_region_def region = {
        .guest_address = guest_base,
        .bytes = link->memory_bytes,
        .user_address = (uint64_t)(uintptr_t)link->memory,
        .fd = link->memory_fd,
    };
    must(vu_front_set_memory(link->front, &region, 1, &error), &error, "memory table");
    guest_link_start_rings(link);
}

void guest_link_start_rings(struct guest_link *link)
{
    for (unsigned i = 0; i < link->ring_count; i++) {
        struct guest_ring *ring = &link->rings[i];
        struct err *error = NULL;
        const struct vu_front_ring start = {
            .size = GUEST_RING_SIZE,
            .base = ring->driver.next_used, /* nothing is under way when rings are started */
            .desc_user = (uint64_t)(uintptr_t)ring->driver.desc,
            .avail_user = (uint64_t)(uintptr_t)ring->driver.avail,
            .used_user = (uint64_t)(uintptr_t)ring->driver.used,
            .kick_fd = ring->kick_fd,
            .call_fd = link->call_fd,
        };

        must(vu_front_ring_start(link->front, i, &start, &error), &error, "ring start");
        ring->is_started = true;
    }
}

void guest_link_stop_rings(struct guest_link *link)
{
    for (unsigned i = 0; i < link->ring_count; i++) {
        struct err *error = NULL;
        uint32_t base = 0;

        must(vu_front_ring_stop(link->front, i, &base, &error), &error, "ring stop");
        link->rings[i].is_started = false;
    }
}

void guest_link_close(struct guest_link *link)
{
    vu_front_free(link->front);
    os_unmap(link->memory, link->memory_bytes);
    os_close_now(link->memory_fd);
    os_close_now(link->call_fd);
    for (unsigned i = 0; i < link->ring_count; i++) {
        os_close_now(link->rings[i].kick_fd);
    }
}

void guest_send(struct guest_link *link, struct guest_ring *ring, struct guest_slot *slot,
                uint32_t out_bytes, uint32_t in_bytes, enum guest_data data)
{
    struct ring_desc *desc = &ring->driver.desc[slot->head];
    uint16_t next = (uint16_t)(slot->head + 1);
    bool has_data = data != GUEST_DATA_NONE && slot->data_bytes > 0;

    memset(slot->in, 0xff, IN_BYTES);
    slot->turn++;
    if (out_bytes > 0) {
        ring_desc_set(desc++, guest_address(link, slot->out), out_bytes, RING_DESC_F_NEXT, next++);
    }
    if (has_data && data == GUEST_DATA_OUT) {
        ring_desc_set(desc++, guest_address(link, slot->data), slot->data_bytes, RING_DESC_F_NEXT,
                      next++);
    }
    ring_desc_set(desc++, guest_address(link, slot->in), in_bytes,
                  (uint16_t)(RING_DESC_F_WRITE |
                             (has_data && data == GUEST_DATA_IN ? RING_DESC_F_NEXT : 0)),
                  has_data && data == GUEST_DATA_IN ? next : 0);
    if (has_data && data == GUEST_DATA_IN) {
        ring_desc_set(desc, guest_address(link, slot->data), slot->data_bytes, RING_DESC_F_WRITE,
                      0);
    }
    ring_driver_offer(&ring->driver, slot->head);
}

void guest_kick(struct guest_ring *ring)
{
    if (ring_driver_publish(&ring->driver)) {
        os_eventfd_signal(ring->kick_fd);
    }
}

struct guest_slot *guest_take(struct guest_ring *ring, uint32_t *ret_written)
{
    int head = ring_driver_take(&ring->driver, ret_written);

    if (head < 0) {
        if (head == -EAGAIN) {
            return NULL;
        }
        panic("guest: ring %u: a descriptor that does not exist came back", ring->index);
    }
    for (unsigned i = 0; i < GUEST_SLOTS; i++) {
        if (ring->slots[i].head == head && ring->slots[i].kind != GUEST_IDLE) {
            return &ring->slots[i];
        }
    }
    panic("guest: ring %u: descriptor %d came back twice, or was never sent", ring->index, head);
}

bool guest_wait(struct guest_link *link, uint64_t timeout)
{
    bool is_there = false, woke = true;

    for (unsigned i = 0; i < link->ring_count; i++) {
        is_there |= ring_driver_want_call(&link->rings[i].driver, true);
    }
    if (!is_there) {
        woke = sim_wait_fd(link->call_fd, POLLIN, timeout);
    }
    os_eventfd_clear(link->call_fd);
    for (unsigned i = 0; i < link->ring_count; i++) {
        (void)ring_driver_want_call(&link->rings[i].driver, false);
    }
    return woke;
}
