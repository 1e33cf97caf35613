/*
 * ring_driver.c -- the driver side of a split virtqueue (virtio 1.3, 2.7.13 and 2.7.14).
 *
 * The mirror image of virtq_split.c: publishing the available index releases what was written
 * before, a full fence stands between it and the look at whether the device wants a kick, and
 * likewise between asking for a call and the look at the used index.
 */
#include "virtio/ring_driver.h"
#include "base/checked.h"
#include "sync/atomic.h"
#include <endian.h>
#include <errno.h>
#include <string.h>

enum { PART_ALIGNMENT = 4096 }; /* each part on cache lines and pages of its own */

struct ring_driver_layout ring_driver_layout(uint16_t size)
{
    struct ring_driver_layout layout = {0};

    layout.avail = align_up(ring_desc_bytes(size), PART_ALIGNMENT);
    layout.used = layout.avail + align_up(ring_avail_bytes(size), PART_ALIGNMENT);
    layout.bytes = layout.used + align_up(ring_used_bytes(size), PART_ALIGNMENT);
    return layout;
}

void ring_driver_init(struct ring_driver *driver, void *memory, uint16_t size, bool event_idx)
{
    struct ring_driver_layout layout = ring_driver_layout(size);
    uint8_t *start = memory;

    assert(is_power_of_two(size));
    memset(memory, 0, layout.bytes);
    *driver = (struct ring_driver){
        .desc = (struct ring_desc *)(void *)(start + layout.desc),
        .avail = (struct ring_avail *)(void *)(start + layout.avail),
        .used = (struct ring_used *)(void *)(start + layout.used),
        .size = size,
        .event_idx = event_idx,
    };
}

void ring_desc_set(struct ring_desc *desc, uint64_t guest_address, uint32_t bytes, uint16_t flags,
                   uint16_t next)
{
    *desc = (struct ring_desc){
        .addr = htole64(guest_address),
        .len = htole32(bytes),
        .flags = htole16(flags),
        .next = htole16(next),
    };
}

void ring_driver_offer(struct ring_driver *driver, uint16_t head)
{
    driver->avail->ring[driver->next_avail & (driver->size - 1)] = htole16(head);
    driver->next_avail++;
}

bool ring_driver_publish(struct ring_driver *driver)
{
    uint16_t before = driver->published;

    if (driver->next_avail == before) {
        return false;
    }
    /* pairs with load_avail() */
    at_store16_release_buffered(&driver->avail->idx, htole16(driver->next_avail));
    driver->published = driver->next_avail;
    at_fence();
    if (driver->event_idx) {
        uint16_t event = le16toh(at_load_relaxed(ring_avail_event(driver->used, driver->size)));

        return ring_event_passed(event, driver->next_avail, before);
    }
    return (le16toh(at_load_relaxed(&driver->used->flags)) & RING_USED_F_NO_NOTIFY) == 0;
}

bool ring_driver_has_used(const struct ring_driver *driver)
{
    /* pairs with split_flush() */
    return le16toh(at_load_acquire(&driver->used->idx)) != driver->next_used;
}

int ring_driver_take(struct ring_driver *driver, uint32_t *ret_written)
{
    struct ring_used_elem elem;
    uint32_t head;

    if (!ring_driver_has_used(driver)) {
        return -EAGAIN;
    }
    elem = driver->used->ring[driver->next_used & (driver->size - 1)];
    head = le32toh(elem.id);
    if (head >= driver->size) {
        return -EPROTO;
    }
    driver->next_used++;
    *ret_written = le32toh(elem.len);
    return (int)head;
}

bool ring_driver_want_call(struct ring_driver *driver, bool wanted)
{
    if (!driver->event_idx) {
        at_store16_buffered(&driver->avail->flags, htole16(wanted ? 0 : RING_AVAIL_F_NO_INTERRUPT));
    } else { /* not wanted: half the range away, not reached before it is set again */
        uint16_t event = (uint16_t)(driver->next_used + (wanted ? 0 : 0x8000));

        at_store16_buffered(ring_used_event(driver->avail, driver->size), htole16(event));
    }
    at_fence();
    return wanted && ring_driver_has_used(driver);
}
