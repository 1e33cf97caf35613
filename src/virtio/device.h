/*
 * device.h -- what a virtio device offers to whatever transport serves it (export/vhost_user.c).
 *
 * The transport owns sockets, memory tables and the order of messages; the device owns its queues,
 * their homes and their requests. All calls come on the main loop, in coroutines, one at a time
 * (but for co_queue_abandon). A descriptor given to a queue stays open until the queue has stopped,
 * been abandoned or been given another.
 */
#pragma once
#include "base/err.h"
#include "virtio/memory.h"
#include "virtio/virtq.h"

enum { VIRTIO_QUEUES_MAX = 66 }; /* virtio-scsi: control, event, 64 request queues */

struct virtio_queue_setup {
    struct virtq_config config;
    int kick_fd; /* -1: poll only; stays the transport's until the queue has stopped */
    int call_fd; /* -1: no interrupts */
    int err_fd;  /* -1: none */
    bool enabled; /* may be served at once; see co_queue_set_enabled */
};

struct virtio_device_ops {
    const char *type;          /* "vhost-user-scsi" */
    uint64_t features;         /* device and ring features on offer; the transport adds its own */
    MAIN_SLOT unsigned (*queue_count)(void *device);
    /* Fill @to with config space [@offset, @offset + @bytes), zero beyond its end. */
    MAIN_SLOT void (*config_read)(void *device, uint32_t offset, uint32_t bytes, uint8_t *to);
    MAIN_SLOT int (*config_write)(void *device, uint32_t offset, uint32_t bytes,
                                  const uint8_t *from);
    MAIN_SLOT void (*set_features)(void *device, uint64_t features);
    /* Begin serving ring @index; returns when its home has taken it up. */
    CO_SLOT MAIN_SLOT int (*co_queue_start)(void *device, unsigned index,
                                            const struct virtio_queue_setup *setup,
                                            struct guest_memory *memory, struct err **reterr);
    /* Stop popping, answer what is parked, wait until every request of the ring is pushed. -ENOENT:
     * the ring was not running; -ECANCELED: it was abandoned meanwhile. */
    CO_SLOT MAIN_SLOT int (*co_queue_stop)(void *device, unsigned index, uint32_t *ret_base);
    /* The front end is gone: stop popping, answer nothing. Waits for no request; each keeps the
     * memory it works in until it ends. May be called while co_queue_stop waits, which ends it. */
    CO_SLOT MAIN_SLOT void (*co_queue_abandon)(void *device, unsigned index);
    /* Ring running, new table: returns when every home has translated its rings anew. */
    CO_SLOT MAIN_SLOT int (*co_set_memory)(void *device, struct guest_memory *memory,
                                           struct err **reterr);
    /* The call descriptor of a running ring was replaced. */
    CO_SLOT MAIN_SLOT void (*co_queue_set_call)(void *device, unsigned index, int call_fd);
    CO_SLOT MAIN_SLOT void (*co_queue_set_err)(void *device, unsigned index, int err_fd);
    CO_SLOT MAIN_SLOT void (*co_queue_set_enabled)(void *device, unsigned index, bool enabled);
    /* The front end asked for, or its going away implies, a device reset. Queues are stopped. */
    CO_SLOT MAIN_SLOT void (*co_reset)(void *device);
};

/* What the transport offers to the device. */
struct virtio_transport_ops {
    /* A ring broke (its error eventfd has been signalled): the transport logs @text. */
    MAIN_SLOT void (*queue_broken)(void *transport, unsigned index, const char *text);
};
