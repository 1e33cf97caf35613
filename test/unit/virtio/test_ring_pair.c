/*
 * test_ring_pair.c -- the driver side (ring_driver.c) and the device side (virtq.c) of one ring on
 * two threads, both sleeping on their eventfd whenever they may: no request is lost, none comes
 * twice, and no wake-up is missed. A missed one shows as a time-out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include "base/bytes.h"
#include "base/mem.h"
#include "loop/io.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/thread.h"
#include "sync/atomic.h"
#include "virtio/ring_driver.h"
#include "virtio/virtq.h"

enum {
    RAM_BYTES = 1 << 20,
    RING = 64,
    DATA = 0x40000,
    REQUESTS = 30000,
    BATCH_MAX = 5,
    PATIENCE_S = 5, /* nothing here takes milliseconds */
};
static const uint64_t guest_base = 0x80000000;

void pool_run(pool_fn *fn, void *opaque)
{
    (void)fn(opaque);
}

struct pair {
    struct guest_memory *memory;
    uint8_t *ram;
    struct virtq *queue;
    struct ring_driver driver;
    int kick_fd, call_fd;
    uint32_t stop; /* atomic */
    unsigned seed;
};

/* ---- the device ----------------------------------------------------------------------------- */

/* Take a few, answer them the other way round. */
HOME_LOOP
static unsigned serve(struct pair *pair, struct virtq_elem *held,
                      struct iovec iov[][VIRTQ_IOV_MAX])
{
    unsigned batch = 1 + (unsigned)rand_r(&pair->seed) % BATCH_MAX, count = 0;

    while (count < batch && virtq_pop(pair->queue, &held[count], iov[count], NULL) == 1) {
        uint64_t stamp = 0;

        (void)virtq_elem_read(&held[count], 0, &stamp, sizeof(stamp));
        stamp = ~stamp;
        (void)virtq_elem_write(pair->queue, &held[count], 0, &stamp, sizeof(stamp));
        count++;
    }
    for (unsigned i = count; i > 0; i--) {
        virtq_push(pair->queue, &held[i - 1], 8);
    }
    if (virtq_flush(pair->queue)) {
        os_eventfd_signal(pair->call_fd);
    }
    return count;
}

HOME_LOOP
static void device_main(void *opaque)
{
    static struct iovec iov[BATCH_MAX][VIRTQ_IOV_MAX];
    struct virtq_elem held[BATCH_MAX];
    struct pair *pair = opaque;

    while (!at_load(&pair->stop)) {
        (void)virtq_set_kicks(pair->queue, false);
        while (serve(pair, held, iov) > 0) {
        }
        if (!virtq_set_kicks(pair->queue, true)) {
            (void)os_fd_wait(pair->kick_fd, OS_FD_IN, UINT64_MAX);
        }
        (void)os_eventfd_clear(pair->kick_fd);
    }
}

/* ---- the driver ----------------------------------------------------------------------------- */

static void submit(struct pair *pair, unsigned slot, uint64_t stamp)
{
    uint64_t at = DATA + 64 * slot;

    le64_store(pair->ram + at, stamp);
    ring_desc_set(&pair->driver.desc[2 * slot], guest_base + at, 8, RING_DESC_F_NEXT,
                  (uint16_t)(2 * slot + 1));
    ring_desc_set(&pair->driver.desc[2 * slot + 1], guest_base + at + 16, 8, RING_DESC_F_WRITE, 0);
    ring_driver_offer(&pair->driver, (uint16_t)(2 * slot));
}

static void collect(struct pair *pair, uint64_t *stamps, unsigned *out)
{
    uint32_t written;
    int head;

    while ((head = ring_driver_take(&pair->driver, &written)) >= 0) {
        unsigned slot = (unsigned)head / 2;

        assert_true(slot < RING / 2);
        assert_int_not_equal(stamps[slot], 0); /* not twice */
        assert_int_equal(written, 8);
        assert_int_equal(le64_load(pair->ram + DATA + 64 * slot + 16), ~stamps[slot]);
        stamps[slot] = 0;
        (*out)--;
    }
    assert_int_equal(head, -EAGAIN);
}

/* Sleeps until the device calls; a device that forgot to shows here. */
static void await_call(struct pair *pair)
{
    if (!ring_driver_want_call(&pair->driver, true)) {
        int rc = os_fd_wait(pair->call_fd, OS_FD_IN, (uint64_t)PATIENCE_S * 1000000000);

        assert_true(rc > 0); /* else a wake-up was lost, on one side or the other */
    }
    (void)os_eventfd_clear(pair->call_fd);
    (void)ring_driver_want_call(&pair->driver, false);
}

static void drive(struct pair *pair, unsigned depth)
{
    uint64_t stamps[RING / 2] = {0}, stamp = 1;
    unsigned out = 0;

    (void)ring_driver_want_call(&pair->driver, false);
    while (stamp <= REQUESTS || out > 0) {
        for (unsigned slot = 0; slot < depth && stamp <= REQUESTS; slot++) {
            if (stamps[slot] == 0) {
                stamps[slot] = stamp++;
                submit(pair, slot, stamps[slot]);
                out++;
            }
        }
        if (ring_driver_publish(&pair->driver)) {
            os_eventfd_signal(pair->kick_fd);
        }
        collect(pair, stamps, &out);
        if (out == depth || (out > 0 && stamp > REQUESTS)) {
            await_call(pair);
            collect(pair, stamps, &out);
        }
    }
}

HOME_LOOP
static void run_pair(uint64_t features, unsigned depth)
{
    int fd = os_memfd("ring", RAM_BYTES);
    struct guest_region_def def = {guest_base, RAM_BYTES, 0, 0, fd};
    struct ring_driver_layout layout = ring_driver_layout(RING);
    struct virtq_config config = {.size = RING, .features = features, .desc_user = layout.desc,
                                  .avail_user = layout.avail, .used_user = layout.used};
    struct pair pair = {.kick_fd = os_eventfd(), .call_fd = os_eventfd(), .seed = depth};
    struct os_thread *device;

    assert_int_equal(guest_memory_new(&def, 1, &pair.memory, NULL), 0);
    pair.ram = guest_memory_at(pair.memory, guest_base, RAM_BYTES);
    ring_driver_init(&pair.driver, pair.ram, RING, (features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0);
    pair.queue = virtq_new(0);
    assert_int_equal(virtq_start(pair.queue, &config, pair.memory, NULL), 0);
    device = os_thread_start("device", device_main, &pair);
    drive(&pair, depth);
    at_store(&pair.stop, 1);
    os_eventfd_signal(pair.kick_fd);
    os_thread_join(device);
    assert_int_equal(virtq_out(pair.queue), 0);
    assert_int_equal(virtq_base(pair.queue), (uint16_t)REQUESTS);
    virtq_stop(pair.queue);
    virtq_free(pair.queue);
    guest_memory_unref(pair.memory);
    assert_int_equal(os_close_now(pair.kick_fd), 0);
    assert_int_equal(os_close_now(pair.call_fd), 0);
}

HOME_LOOP
static void with_event_idx(void **state)
{
    run_pair(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX, 1);
    run_pair(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX, 3);
    run_pair(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX, RING / 2);
}

HOME_LOOP
static void without_event_idx(void **state)
{
    run_pair(0, 1);
    run_pair(0, RING / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_event_idx),
        cmocka_unit_test(without_event_idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
