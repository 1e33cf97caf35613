/*
 * scenario_ring.c -- a driver and a device on one split ring (ring_driver.c, virtq.c,
 * virtq_split.c), both sleeping whenever they may: every order, with stores held back in store
 * buffers. Nobody may sleep for ever.
 *
 * The variants that must fail leave out one fence each, or look away from an answer.
 */
#include "explore.h"
#include "base/mem.h"
#include "sync/atomic.h"
#include <errno.h>
#include <string.h>

static const char *fence_left_out; /* the function whose fence is missing; NULL: none */

static void fence_of(const char *function)
{
    if (fence_left_out == NULL || strcmp(function, fence_left_out) != 0) {
        at_fence();
    }
}

#undef at_fence
#define at_fence() fence_of(__func__)
#include "src/virtio/virtq_split.c"
#include "src/virtio/ring_driver.c"

/* One request that meets a ring in the middle of its life: both sides awake, nobody wants to be
 * told. Its index is the last before the wrap. */
enum { REQUESTS = 1, RING = 2, BASE = 65535, DRIVER = 0, DEVICE = 1 };

static _Alignas(4096) uint8_t ram[3 * 4096];
static struct ring_driver driver;
static struct virtq *queue;
static bool device_forgets, driver_forgets, kicks_stay_on;
static unsigned served, came_back;

/* ---- memory: one region, address 0, all of `ram` --------------------------------------------- */

struct guest_memory {
    int unused;
};
static struct guest_memory memory;

struct guest_memory *guest_memory_ref(struct guest_memory *of)
{
    return of;
}
void guest_memory_unref(struct guest_memory *of)
{
    (void)of;
}
bool guest_memory_is_broken(const struct guest_memory *of)
{
    (void)of;
    return false;
}
void *guest_memory_at_user(const struct guest_memory *of, uint64_t address, uint64_t bytes)
{
    (void)of;
    return range_is_inside(address, bytes, sizeof(ram)) ? ram + address : NULL;
}
void *guest_memory_at_hint(const struct guest_memory *of, uint64_t address, uint64_t bytes,
                           unsigned *hint)
{
    (void)hint;
    return guest_memory_at_user(of, address, bytes);
}
int guest_memory_pieces_hint(const struct guest_memory *of, uint64_t address, uint64_t bytes,
                             struct iovec *to, int max, unsigned *hint)
{
    (void)hint;
    (void)max;
    to[0] = (struct iovec){guest_memory_at_user(of, address, bytes), bytes};
    return to[0].iov_base == NULL ? -EFAULT : 1;
}

/* ---- the two
 * ---------------------------------------------------------------------------------- */

HOME_LOOP
static void device(void)
{
    static struct iovec iov[VIRTQ_IOV_MAX];
    struct virtq_elem elem;

    while (served < REQUESTS) {
        if (!kicks_stay_on) {
            (void)virtq_set_kicks(queue, false);
        }
        while (virtq_pop(queue, &elem, iov, NULL) == 1) {
            virtq_push(queue, &elem, 0);
            served++;
            if (virtq_flush(queue)) {
                explore_unpark(DRIVER);
            }
        }
        if (served < REQUESTS &&
            (kicks_stay_on || !virtq_set_kicks(queue, true) || device_forgets)) {
            explore_park();
        }
    }
}

static void collect(void)
{
    uint32_t written;
    int head;

    while ((head = ring_driver_take(&driver, &written)) >= 0) {
        explore_check(came_back < REQUESTS);
        came_back++;
    }
    explore_check(head == -EAGAIN);
}

static void drive(void)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        ring_desc_set(&driver.desc[0], 0, 8, 0, 0);
        ring_driver_offer(&driver, 0);
        if (ring_driver_publish(&driver)) {
            explore_unpark(DEVICE);
        }
        while (came_back <= i) {
            collect();
            if (came_back <= i && (!ring_driver_want_call(&driver, true) || driver_forgets)) {
                explore_park();
            }
            (void)ring_driver_want_call(&driver, false);
        }
    }
}

HOME_LOOP
static void actor(unsigned i)
{
    if (i == DEVICE) {
        device();
    } else {
        drive();
    }
}

HOME_LOOP
static void begin(uint64_t with_features)
{
    struct virtq_config config = {.size = RING, .features = with_features, .desc_user = 0,
                                  .avail_user = 4096, .used_user = 8192, .next_avail = BASE};

    if (queue != NULL && virtq_out(queue) == 0) {
        virtq_stop(queue);
        virtq_free(queue);
    }
    fence_left_out = NULL;
    device_forgets = driver_forgets = kicks_stay_on = false;
    served = came_back = 0;
    ring_driver_init(&driver, ram, RING, with_features != 0);
    driver.next_avail = driver.published = driver.next_used = BASE;
    driver.avail->idx = driver.used->idx = htole16(BASE);
    (void)ring_driver_want_call(&driver, false);
    queue = virtq_new(0);
    if (virtq_start(queue, &config, &memory, NULL) < 0) {
        explore_fail("no start");
    }
    queue->never_flushed = false; /* else the first interrupt hides the first decision */
    if (with_features != 0) {
        *ring_avail_event(driver.used, RING) = htole16(BASE - 1); /* as after a busy time */
        queue->split.armed_at = BASE - 1;
    } else {
        (void)virtq_set_kicks(queue, false);
    }
}

static void check(void)
{
    explore_check(served == REQUESTS);
    explore_check(came_back == REQUESTS);
}

/* ---- variants
 * --------------------------------------------------------------------------------- */

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define VARIANT(name, with_features, ...)                                                          \
    HOME_LOOP static void name(void)                                                               \
    {                                                                                              \
        begin(with_features);                                                                      \
        __VA_ARGS__;                                                                               \
    }
VARIANT(with_event_idx, EVENT_IDX)
VARIANT(with_flags, 0)
VARIANT(always_asking, EVENT_IDX, kicks_stay_on = true)
VARIANT(no_fence_after_arming, EVENT_IDX, fence_left_out = "arm_kick")
VARIANT(no_fence_after_used, EVENT_IDX, fence_left_out = "split_flush")
VARIANT(no_fence_after_flags, 0, fence_left_out = "split_set_kicks")
VARIANT(no_fence_after_used_flags, 0, fence_left_out = "split_flush")
VARIANT(no_fence_after_avail, EVENT_IDX, fence_left_out = "ring_driver_publish")
VARIANT(no_fence_after_want, EVENT_IDX, fence_left_out = "ring_driver_want_call")
VARIANT(device_looks_away, EVENT_IDX, device_forgets = true)
VARIANT(driver_looks_away, EVENT_IDX, driver_forgets = true)

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"event-idx", 2, actor, with_event_idx, check},
        {"flags", 2, actor, with_flags, check},
        {"always-asking", 2, actor, always_asking, check},
        {"no-fence-after-arming", 2, actor, no_fence_after_arming, check, "stuck"},
        {"no-fence-after-used", 2, actor, no_fence_after_used, check, "stuck"},
        {"no-fence-after-flags", 2, actor, no_fence_after_flags, check, "stuck"},
        {"no-fence-after-used-flags", 2, actor, no_fence_after_used_flags, check, "stuck"},
        {"no-fence-after-avail", 2, actor, no_fence_after_avail, check, "stuck"},
        {"no-fence-after-want", 2, actor, no_fence_after_want, check, "stuck"},
        {"device-looks-away", 2, actor, device_looks_away, check, "stuck"},
        {"driver-looks-away", 2, actor, driver_looks_away, check, "stuck"},
    };
    return explore_main(argc, argv, scenarios, countof(scenarios));
}
