/*
 * ring_driver.h -- the driver side of a split virtqueue, as a guest has it: for load generators and
 * tests. One thread at a time. The caller decides which descriptors make up which chain and keeps a
 * chain's descriptors alone while it is with the device.
 */
#pragma once
#include "virtio/ring_layout.h"

CTX_ANY_BEGIN

/* Where the parts lie from the start of a ring's memory, and its length; each part page-aligned. */
struct ring_driver_layout {
    uint64_t desc, avail, used, bytes;
};
struct ring_driver_layout ring_driver_layout(uint16_t size);

struct ring_driver {
    struct ring_desc *desc;
    struct ring_avail *avail;
    struct ring_used *used;
    uint16_t size; /* a power of two */
    bool event_idx;
    uint16_t next_avail; /* the next offer */
    uint16_t published;  /* avail->idx */
    uint16_t next_used;  /* the next take */
};
/* @memory: as long as the layout says. Cleared. */
void ring_driver_init(struct ring_driver *driver, void *memory, uint16_t size, bool event_idx);

/* Also for indirect tables: they are arrays of the same. */
void ring_desc_set(struct ring_desc *desc, uint64_t guest_address, uint32_t bytes, uint16_t flags,
                   uint16_t next);

/* Put chain @head into the available ring; seen by the device after the next publish. */
void ring_driver_offer(struct ring_driver *driver, uint16_t head);
/* True: the device wants a kick. */
bool ring_driver_publish(struct ring_driver *driver);

/* The head of a chain that has come back and what was written to it; -EAGAIN: none; -EPROTO: the
 * device names a descriptor that does not exist. */
int ring_driver_take(struct ring_driver *driver, uint32_t *ret_written);
bool ring_driver_has_used(const struct ring_driver *driver);
/* Ask to be called for the next chain that comes back, or not to. True: one is there already. */
bool ring_driver_want_call(struct ring_driver *driver, bool wanted);

CTX_ANY_END
