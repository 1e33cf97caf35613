/* guest_int.h -- between guest.c (what it does) and guest_rings.c (how it reaches the device). */
#pragma once
#include "base/err.h"
#include "sim/guest.h"
#include "virtio/ring_driver.h"
#include "virtio/scsi_proto.h"
#include "virtio/vu_front.h"

CTX_ANY_BEGIN

enum {
    GUEST_QUEUES_MAX = 4,                    /* request queues */
    GUEST_RINGS_MAX = 2 + GUEST_QUEUES_MAX,  /* with control and event */
    GUEST_SLOTS = 8,                         /* requests under way in one ring */
    GUEST_RING_SIZE = 32,
    GUEST_DATA_BYTES = 4096,
    GUEST_BLOCK_BYTES = 512,
};

enum guest_kind { GUEST_IDLE, GUEST_READ, GUEST_WRITE, GUEST_OTHER, GUEST_TMF, GUEST_EVENT };

/* One chain of three descriptors and its shared memory. */
struct guest_slot {
    uint8_t *out, *in, *data;
    uint16_t head;
    enum guest_kind kind;
    uint32_t data_bytes;
    uint64_t block, count; /* READ, WRITE */
    uint64_t generation;   /* WRITE */
    unsigned turn;         /* how often it was sent */
};

struct guest_ring {
    unsigned index;
    struct ring_driver driver;
    int kick_fd;
    struct guest_slot slots[GUEST_SLOTS];
    bool is_started;
};

struct guest_link {
    struct vu_front *front;
    int memory_fd, call_fd;
    uint8_t *memory;
    uint64_t memory_bytes;
    unsigned ring_count;
    struct guest_ring rings[GUEST_RINGS_MAX];
};

/* Connect (again and again until the adapter is there), share memory, start every ring. */
void guest_link_open(struct guest_link *link, const char *path, unsigned queues);
void guest_link_stop_rings(struct guest_link *link);
void guest_link_start_rings(struct guest_link *link);
void guest_link_close(struct guest_link *link);

/* Put the slot's request on its ring. @out_bytes, @in_bytes: header and answer. */
enum guest_data { GUEST_DATA_NONE, GUEST_DATA_OUT, GUEST_DATA_IN };
void guest_send(struct guest_link *link, struct guest_ring *ring, struct guest_slot *slot,
                uint32_t out_bytes, uint32_t in_bytes, enum guest_data data);
void guest_kick(struct guest_ring *ring);

/* The next slot that has come back, or NULL. */
struct guest_slot *guest_take(struct guest_ring *ring, uint32_t *ret_written);

/* Sleep until something has come back; as a driver does it: by interrupt. False: @timeout_ns is
 * over. */
bool guest_wait(struct guest_link *link, uint64_t timeout_ns);

CTX_ANY_END
