/* rig.c -- see rig.h. */
#include <unistd.h>
#include "base/bytes.h"
#include "base/event.h"
#include "base/iov.h"
#include "base/log.h"
#include "base/str.h"
#include "block/drivers.h"
#include "block/node.h"
#include "device/device.h"
#include "export/export.h"
#include "loop/io.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/thread.h"
#include "os/time.h"
#include "rig.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include "virtio/virtq.h"

/* ---- the program ----------------------------------------------------------------------------- */

enum { HANG_SECONDS = 60 };

static struct os_mutex lock = OS_MUTEX_INIT;
static struct os_cond cond = OS_COND_INIT;
static int failures;

void rig_sleep_ms(unsigned ms)
{
    usleep(ms * 1000);
}

struct call {
    co_fn *fn;
    void *opaque;
    bool done;
};

CO_FN
static void call_co(void *opaque)
{
    struct call *call = opaque;

    call->fn(call->opaque);
    os_mutex_lock(&lock);
    call->done = true;
    os_cond_broadcast(&cond);
    os_mutex_unlock(&lock);
}

void rig_call(co_fn *fn, void *opaque)
{
    struct call call = {.fn = fn, .opaque = opaque};

    loop_co_spawn(loop_main(), call_co, &call, "rig call");
    os_mutex_lock(&lock);
    while (!call.done) {
        os_cond_wait(&cond, &lock);
    }
    os_mutex_unlock(&lock);
}

/* ---- the driver "hold" ----------------------------------------------------------------------- */

static uint32_t holding; /* atomic */
static uint32_t held;    /* atomic */


unsigned rig_held(void)
{
    return at_load(&held);
}

MAIN_LOOP CO_FN
static int hold_co_open(struct blk_node *node, const void *options, struct err **reterr)
{
    (void)options;
    (void)reterr;
    blk_node_set_bytes(node, 1 << 20);
    return 0;
}

static uint64_t order[64];
static uint32_t order_count; /* atomic */

void rig_hold(bool hold)
{
    at_store(&order_count, 0);
    at_store(&holding, hold);
}

uint64_t rig_held_offset(unsigned index)
{
    return at_load(&order[index]);
}

CO_FN
static int hold_wait(uint64_t offset)
{
    at_store(&order[at_add(&order_count, 1) % countof(order)], offset);
    at_add(&held, 1);
    while (at_load(&holding)) {
        loop_co_sleep(500 * 1000);
    }
    at_sub(&held, 1);
    return 0;
}

CO_FN GRAPH_RD
static int hold_co_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                          const struct iovec *iov, size_t count, unsigned flags)
{
    iov_fill(iov, count, 0, 0x5a, bytes);
    return hold_wait(offset);
}

CO_FN GRAPH_RD
static int hold_co_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                           const struct iovec *iov, size_t count, unsigned flags)
{
    return hold_wait(offset);
}

static const struct opt_table hold_table = {
    .name = "hold",
    .base = &blk_common_options_table,
    .values_bytes = sizeof(struct blk_common_options),
};
static const struct blk_driver hold_driver = {
    .name = "hold",
    .options = &hold_table,
    .co_open = hold_co_open,
    .co_preadv = hold_co_preadv,
    .co_pwritev = hold_co_pwritev,
};

/* ---- events and log -------------------------------------------------------------------------- */

static struct strbuf events;
static struct strbuf log_lines;

static void note_event(const struct event_def *event, json_t *data, void *opaque)
{
    const char *id = json_string_value(json_object_get(data, "device"));

    if (id == NULL) {
        id = json_string_value(json_object_get(data, "id"));
    }
    os_mutex_lock(&lock);
    strbuf_addf(&events, "%s %s\n", event->name, id != NULL ? id : "-");
    os_mutex_unlock(&lock);
}

unsigned rig_events(const char *name, const char *id)
{
    AUTO_MEM char *line = str_format("%s %s\n", name, id != NULL ? id : "-");
    unsigned count = 0;

    os_mutex_lock(&lock);
    for (const char *at = events.text; at != NULL && (at = strstr(at, line)) != NULL; at++) {
        count++;
    }
    os_mutex_unlock(&lock);
    return count;
}

static void note_log(const char *line, void *opaque)
{
    os_mutex_lock(&lock);
    strbuf_addf(&log_lines, "%s\n", line);
    os_mutex_unlock(&lock);
}

const char *rig_log(void)
{
    static char *copy;

    os_mutex_lock(&lock);
    mem_free(copy);
    copy = mem_strdup(log_lines.text != NULL ? log_lines.text : "");
    os_mutex_unlock(&lock);
    return copy;
}

void rig_log_clear(void)
{
    os_mutex_lock(&lock);
    strbuf_fini(&log_lines);
    memset(&log_lines, 0, sizeof(log_lines));
    os_mutex_unlock(&lock);
}

/* ---- main ------------------------------------------------------------------------------------ */

static int (*all_tests)(void);

CO_FN
static void stop_co(void *opaque)
{
    loop_assert_main();
    expect(export_co_delete_all(0) == 0);
    loop_stop(loop_main());
}

static void tests_thread(void *opaque)
{
    failures = all_tests();
    loop_co_spawn(loop_main(), stop_co, NULL, "rig stop");
    co_pool_release();
}

int rig_main(int (*tests)(void))
{
    static const struct blk_driver *const drivers[] = {&hold_driver, &blk_driver_null_co};
    static const struct export_type *const types[] = {&vhost_user_scsi_export_type};
    struct loop_config config = {.name = "main"};
    struct os_thread *thread;
    struct loop *loop;

    alarm(HANG_SECONDS);
    asym_init();
    log_set_sink(note_log, NULL);
    event_set_sink(note_event, NULL);
    loop = loop_new(&config, NULL);
    expect(loop != NULL);
    loop_assert_main();
    blk_drivers_set(drivers, countof(drivers));
    export_types_set(types, countof(types));
    all_tests = tests;
    thread = os_thread_start("tests", tests_thread, NULL);
    loop_run(loop);
    os_thread_join(thread);
    return failures != 0;
}

/* ---- the operator ---------------------------------------------------------------------------- */

char rig_error[512];

struct operation {
    int (*fn)(struct operation *op, struct err **reterr);
    const char *text;
    bool flag;
    int rc;
};

CO_FN
static void operation_co(void *opaque)
{
    struct operation *op = opaque;
    struct err *error = NULL;

    op->rc = op->fn(op, &error);
    snprintf(rig_error, sizeof(rig_error), "%s", error != NULL ? error->text : "");
    err_free(error);
}

static int run_operation(int (*fn)(struct operation *op, struct err **reterr), const char *text,
                         bool flag)
{
    struct operation op = {.fn = fn, .text = text, .flag = flag};

    rig_call(operation_co, &op);
    return op.rc;
}

static json_t *parse_json(const char *text)
{
    AUTO_MEM char *copy = mem_strdup(text);
    json_t *object;

    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    object = json_loads(copy, 0, NULL);
    expect(object != NULL);
    return object;
}

MAIN_LOOP CO_FN
static int op_blockdev_add(struct operation *op, struct err **reterr)
{
    json_t *object = parse_json(op->text);
    int rc = blk_node_co_add(object, 0, reterr);

    json_decref(object);
    return rc;
}

MAIN_LOOP CO_FN
static int op_blockdev_del(struct operation *op, struct err **reterr)
{
    return blk_node_co_delete(op->text, reterr);
}

MAIN_LOOP CO_FN
static int op_device_add(struct operation *op, struct err **reterr)
{
    json_t *object = parse_json(op->text);
    int rc = device_co_add(object, 0, reterr);

    json_decref(object);
    return rc;
}

MAIN_LOOP CO_FN
static int op_device_del(struct operation *op, struct err **reterr)
{
    return device_co_delete(op->text, reterr);
}

MAIN_LOOP CO_FN
static int op_export_add(struct operation *op, struct err **reterr)
{
    json_t *object = parse_json(op->text);
    int rc = export_co_add(object, 0, reterr);

    json_decref(object);
    return rc;
}

MAIN_LOOP CO_FN
static int op_export_del(struct operation *op, struct err **reterr)
{
    return export_co_delete(op->text, op->flag, reterr);
}

MAIN_LOOP CO_FN
static int op_iothread_add(struct operation *op, struct err **reterr)
{
    struct iothread_options options;
    json_t *none = json_object();
    int rc = opt_parse(&iothread_options_table, none, OPT_KEEP_REST, &options, reterr);

    json_decref(none);
    return rc < 0 ? rc : iothread_co_new(op->text, &options, reterr);
}

int rig_blockdev_add(const char *json)
{
    return run_operation(op_blockdev_add, json, false);
}
int rig_blockdev_del(const char *name)
{
    return run_operation(op_blockdev_del, name, false);
}
int rig_device_add(const char *json)
{
    return run_operation(op_device_add, json, false);
}
int rig_device_del(const char *id)
{
    return run_operation(op_device_del, id, false);
}
int rig_export_add(const char *json)
{
    return run_operation(op_export_add, json, false);
}
int rig_export_del(const char *id, bool hard)
{
    return run_operation(op_export_del, id, hard);
}
void rig_iothread_add(const char *id)
{
    expect(run_operation(op_iothread_add, id, false) == 0);
}

struct query {
    json_t *(*fn)(void);
    char *text;
};

CO_FN
static void query_co(void *opaque)
{
    struct query *query = opaque;
    json_t *value = query->fn();
    char *text = json_dumps(value, JSON_COMPACT);

    query->text = mem_strdup(text);
    free(text);
    json_decref(value);
}

static const char *run_query(json_t *(*fn)(void))
{
    static char *last;
    struct query query = {.fn = fn};

    rig_call(query_co, &query);
    mem_free(last);
    last = query.text;
    return last;
}

MAIN_LOOP
static json_t *waits(void)
{
    json_t *array = json_array();

    device_describe_waits(array);
    export_describe_waits(array);
    return array;
}

const char *rig_query_devices(void)
{
    return run_query(device_describe_scsi);
}
const char *rig_query_exports(void)
{
    return run_query(export_describe_all);
}
const char *rig_query_waits(void)
{
    return run_query(waits);
}

/* ---- the guest ------------------------------------------------------------------------------- */

/* Rings first, then a slot for each chain of each ring. */
enum { RING_ROOM = 64 << 10, CHAINS_MAX = 24 };

static uint64_t slot_offset(unsigned ring, unsigned chain)
{
    return GUEST_RINGS_MAX * RING_ROOM + (ring * CHAINS_MAX + chain) * (uint64_t)GUEST_SLOT_BYTES;
}

struct guest *guest_new(const char *path)
{
    struct guest *guest = mem_new(struct guest);
    struct guest_region_def region = {
        .guest_address = GUEST_ADDRESS, .bytes = GUEST_MEMORY_BYTES};
    struct err *error = NULL;
    void *memory;

    guest->memfd = os_memfd("guest", GUEST_MEMORY_BYTES);
    expect(guest->memfd >= 0);
    expect(os_map_shared(guest->memfd, 0, GUEST_MEMORY_BYTES, &memory) == 0);
    guest->memory = memory;
    region.user_address = (uintptr_t)memory;
    region.fd = guest->memfd;
    if (vu_front_new(path, UINT64_C(5000000000), &guest->front, &error) < 0) {
        panic("%s", error->text);
    }
    guest->features = vu_front_offered(guest->front);
    expect(vu_front_set_features(guest->front, guest->features, &error) == 0);
    expect(vu_front_set_memory(guest->front, &region, 1, &error) == 0);
    return guest;
}

void guest_free(struct guest *guest)
{
    vu_front_free(guest->front);
    os_unmap(guest->memory, GUEST_MEMORY_BYTES);
    os_close_now(guest->memfd);
    for (unsigned i = 0; i < GUEST_RINGS_MAX; i++) {
        if (guest->kick[i] > 0) {
            os_close_now(guest->kick[i]);
            os_close_now(guest->call[i]);
        }
    }
    mem_free(guest);
}

void guest_start(struct guest *guest, unsigned index)
{
    struct ring_driver_layout layout = ring_driver_layout(GUEST_RING_SIZE);
    uint8_t *place = guest->memory + index * RING_ROOM;
    struct vu_front_ring ring = {.size = GUEST_RING_SIZE};
    struct err *error = NULL;

    expect(layout.bytes <= RING_ROOM);
    ring_driver_init(&guest->rings[index], place, GUEST_RING_SIZE,
                     (guest->features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0);
    guest->kick[index] = os_eventfd();
    guest->call[index] = os_eventfd();
    ring.desc_user = (uintptr_t)place + layout.desc;
    ring.avail_user = (uintptr_t)place + layout.avail;
    ring.used_user = (uintptr_t)place + layout.used;
    ring.kick_fd = guest->polls ? -1 : guest->kick[index];
    ring.call_fd = guest->call[index];
    if (vu_front_ring_start(guest->front, index, &ring, &error) < 0) {
        panic("%s", error->text);
    }
}

void guest_start_all(struct guest *guest, unsigned request_queues)
{
    for (unsigned i = 0; i < request_queues + 2; i++) {
        guest_start(guest, i);
    }
}

static unsigned find_chain(struct guest *guest, unsigned ring)
{
    for (unsigned i = 0; i < CHAINS_MAX; i++) {
        if (!guest->used[ring][i] && !guest->done[ring][i]) {
            return i;
        }
    }
    panic("guest ring %u: no chain is free", ring);
}

unsigned guest_submit_raw(struct guest *guest, unsigned ring, const void *out, uint32_t out_bytes,
                          uint32_t in_bytes)
{
    struct ring_driver *driver = &guest->rings[ring];
    unsigned chain = find_chain(guest, ring);
    uint64_t offset = slot_offset(ring, chain);
    uint16_t head = (uint16_t)(chain * 2);

    expect(out_bytes <= GUEST_SLOT_BYTES / 2 && in_bytes <= GUEST_SLOT_BYTES / 2);
    memcpy(guest->memory + offset, out, out_bytes);
    memset(guest->memory + offset + GUEST_SLOT_BYTES / 2, 0xee, in_bytes);
    if (out_bytes > 0) {
        ring_desc_set(&driver->desc[head], GUEST_ADDRESS + offset, out_bytes,
                      in_bytes > 0 ? RING_DESC_F_NEXT : 0, (uint16_t)(head + 1));
        ring_desc_set(&driver->desc[head + 1], GUEST_ADDRESS + offset + GUEST_SLOT_BYTES / 2,
                      in_bytes, RING_DESC_F_WRITE, 0);
    } else {
        ring_desc_set(&driver->desc[head], GUEST_ADDRESS + offset + GUEST_SLOT_BYTES / 2, in_bytes,
                      RING_DESC_F_WRITE, 0);
    }
    guest->used[ring][chain] = true;
    ring_driver_offer(driver, head);
    if (ring_driver_publish(driver)) {
        os_eventfd_signal(guest->kick[ring]);
    }
    return chain;
}

unsigned guest_submit(struct guest *guest, unsigned ring, uint8_t target, uint16_t lun,
                      uint64_t tag, const uint8_t *cdb, size_t cdb_bytes, uint32_t out_bytes,
                      uint32_t in_bytes)
{
    uint8_t out[sizeof(struct virtio_scsi_cmd_req) + 4096] = {0};

    hba_address_format(target, lun, out);
    le64_store(out + 8, tag);
    memcpy(out + 19, cdb, cdb_bytes);
    return guest_submit_raw(guest, ring, out,
                            (uint32_t)sizeof(struct virtio_scsi_cmd_req) + out_bytes,
                            (uint32_t)sizeof(struct virtio_scsi_cmd_resp) + in_bytes);
}

static void reap(struct guest *guest, unsigned ring)
{
    uint32_t written = 0;
    int head;

    while ((head = ring_driver_take(&guest->rings[ring], &written)) >= 0) {
        unsigned chain = (unsigned)head / 2;

        expect(guest->used[ring][chain]); /* else completed twice */
        guest->used[ring][chain] = false;
        guest->done[ring][chain] = true;
        guest->written[ring][chain] = written;
    }
    expect(head == -EAGAIN);
}

bool guest_wait(struct guest *guest, unsigned ring, unsigned chain, unsigned ms)
{
    for (;;) {
        reap(guest, ring);
        if (guest->done[ring][chain]) {
            guest->done[ring][chain] = false;
            return true;
        }
        if (ms-- == 0) {
            return false;
        }
        rig_sleep_ms(1);
    }
}

const uint8_t *guest_in(const struct guest *guest, unsigned ring, unsigned chain)
{
    return guest->memory + slot_offset(ring, chain) + GUEST_SLOT_BYTES / 2;
}

uint32_t guest_written(const struct guest *guest, unsigned ring, unsigned chain)
{
    return guest->written[ring][chain];
}

struct guest_answer guest_answer_of(const struct guest *guest, unsigned ring, unsigned chain)
{
    const uint8_t *in = guest_in(guest, ring, chain);
    struct guest_answer answer = {
        .sense_bytes = le32_load(in),
        .residual = le32_load(in + 4),
        .status = in[10],
        .response = in[11],
        .data = in + sizeof(struct virtio_scsi_cmd_resp),
    };

    memcpy(answer.sense, in + 12, sizeof(answer.sense));
    return answer;
}

struct guest_answer guest_command(struct guest *guest, unsigned ring, uint8_t target, uint16_t lun,
                                  const uint8_t *cdb, size_t cdb_bytes, uint32_t in_bytes)
{
    unsigned chain = guest_submit(guest, ring, target, lun, 1, cdb, cdb_bytes, 0, in_bytes);

    expect(guest_wait(guest, ring, chain, 5000));
    return guest_answer_of(guest, ring, chain);
}

unsigned guest_tmf(struct guest *guest, uint32_t subtype, uint8_t target, uint16_t lun,
                   uint64_t tag)
{
    uint8_t out[sizeof(struct virtio_scsi_tmf_req)] = {0};

    le32_store(out + 4, subtype);
    hba_address_format(target, lun, out + 8);
    le64_store(out + 16, tag);
    return guest_submit_raw(guest, 0, out, sizeof(out), 1);
}

void guest_settle(struct guest *guest, uint8_t target, uint16_t lun)
{
    for (int i = 0; i < 8; i++) {
        if (guest_command(guest, 2, target, lun, TEST_UNIT_READY, 0).status == SCSI_GOOD) {
            return;
        }
    }
    panic("target %u lun %u does not become ready", target, lun);
}
