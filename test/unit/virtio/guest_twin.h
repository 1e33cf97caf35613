/*
 * guest_twin.h -- a guest for tests of virtqueues: its memory, and the driver's half of a split
 * ring written down byte by byte, apart from the code under test.
 */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/mem.h"
#include "loop/io.h"
#include "os/file.h"
#include "sync/atomic.h"
#include "virtio/virtq.h"
#include "sigbus.h"

enum {
    RAM_BYTES = 1 << 20,
    USER = 0x10000000, /* user address of guest address 0 */
    DESC = 0x1000,     /* guest addresses of the parts */
    AVAIL = 0x8000,
    USED = 0xa000,
    INDIRECT = 0x10000,
    DATA = 0x20000,
    SIZE = 8,
};
enum { NEXT = 1, WRITE = 2, IND = 4 };
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT_DESC (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

static unsigned maps_freed; /* the worker pool's stand-in counts */
void pool_run(pool_fn *fn, void *opaque)
{
    maps_freed++;
    (void)fn(opaque);
}

struct guest {
    int fd;
    struct guest_memory *memory;
    uint8_t *ram;
    struct virtq *queue;
    uint16_t size;
    uint16_t avail;
};

static inline struct guest_memory *map_guest(const struct guest *guest)
{
    struct guest_region_def def = {0, RAM_BYTES, USER, 0, os_dup(guest->fd)};
    struct guest_memory *memory = NULL;

    assert_int_equal(guest_memory_new(&def, 1, &memory, NULL), 0);
    return memory;
}

static inline void guest_init(struct guest *guest, uint16_t size)
{
    *guest = (struct guest){.fd = os_memfd("ram", RAM_BYTES), .size = size};
    guest->memory = map_guest(guest);
    guest->ram = guest_memory_at(guest->memory, 0, RAM_BYTES);
    guest->queue = virtq_new(3);
}

static inline struct virtq_config config_of(const struct guest *guest, uint64_t features,
                                           uint16_t base)
{
    return (struct virtq_config){.size = guest->size, .features = features,
                                 .desc_user = USER + DESC, .avail_user = USER + AVAIL,
                                 .used_user = USER + USED, .next_avail = base};
}

HOME_LOOP
static inline void start_at(struct guest *guest, uint64_t features, uint16_t base)
{
    struct virtq_config config = config_of(guest, features, base);
    struct err *error = NULL;

    guest->avail = base;
    le16_store(guest->ram + AVAIL + 2, base);
    le16_store(guest->ram + USED + 2, base);
    if (virtq_start(guest->queue, &config, guest->memory, &error) < 0) {
        fail_msg("%s", error->text);
    }
}

HOME_LOOP
static inline void guest_fini(struct guest *guest)
{
    if (virtq_is_started(guest->queue)) {
        virtq_stop(guest->queue);
    }
    virtq_free(guest->queue);
    guest_memory_unref(guest->memory);
    assert_int_equal(os_close(guest->fd), 0);
}

static inline void put_desc(struct guest *guest, uint64_t table, unsigned i, uint64_t addr,
                            uint32_t len, uint16_t flags, uint16_t next)
{
    uint8_t *at = guest->ram + table + 16 * (size_t)i;

    le64_store(at, addr);
    le32_store(at + 8, len);
    le16_store(at + 12, flags);
    le16_store(at + 14, next);
}

static inline void desc(struct guest *guest, unsigned i, uint64_t addr, uint32_t len,
                        uint16_t flags, uint16_t next)
{
    put_desc(guest, DESC, i, addr, len, flags, next);
}

static inline void offer(struct guest *guest, uint16_t head)
{
    le16_store(guest->ram + AVAIL + 4 + 2 * (guest->avail % guest->size), head);
    guest->avail++;
    le16_store(guest->ram + AVAIL + 2, guest->avail);
}

static inline uint16_t used_idx(const struct guest *guest)
{
    return le16_load(guest->ram + USED + 2);
}

static inline void set_used_event(struct guest *guest, uint16_t event)
{
    le16_store(guest->ram + AVAIL + 4 + 2 * guest->size, event);
}

static inline uint16_t avail_event(const struct guest *guest)
{
    return le16_load(guest->ram + USED + 4 + 8 * guest->size);
}

/* The next pop finds the queue broken, and says so. */
HOME_LOOP
static inline void assert_breaks(struct guest *guest, const char *text)
{
    AUTO(err) struct err *error = NULL;
    struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;

    assert_int_equal(virtq_pop(guest->queue, &elem, iov, &error), -EPROTO);
    if (strstr(error->text, text) == NULL || strstr(error->text, "queue 3: ") != error->text) {
        fail_msg("\"%s\" does not say \"%s\"", error->text, text);
    }
    assert_true(virtq_is_broken(guest->queue));
    assert_int_equal(virtq_pop(guest->queue, &elem, iov, NULL), 0); /* and stays so */
    assert_false(virtq_has_work(guest->queue));
    assert_false(virtq_set_kicks(guest->queue, true));
}
