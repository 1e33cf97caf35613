/*
 * vu_handlers.c -- what each vhost-user message does ("Front-end message types").
 *
 * (O1) A handler either does all of it or refuses with a text and changes nothing.
 * (O2) A ring is started by SET_VRING_KICK, when its size, addresses and the memory they lie in are
 *      known; what it is started with cannot be changed until GET_VRING_BASE has stopped it.
 * (O3) A new memory table is acknowledged when every home has translated its rings anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "export/vu_int.h"
#include "loop/io.h"
#include "os/file.h"
#include "os/socket.h"

#define PROTOCOL_FEATURES                                                                          \
    (UINT64_C(1) << VU_PROTOCOL_F_MQ | UINT64_C(1) << VU_PROTOCOL_F_REPLY_ACK |                    \
     UINT64_C(1) << VU_PROTOCOL_F_CONFIG | UINT64_C(1) << VU_PROTOCOL_F_RESET_DEVICE |             \
     UINT64_C(1) << VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS)
#define F_PROTOCOL (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES)

typedef int vu_handler(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                       struct err **reterr);

/* ---- features ----------------------------------------------------------------------------- */

MAIN_LOOP
static bool any_ring_started(const struct vu_session *session)
{
    for (unsigned i = 0; i < session->ring_count; i++) {
        if (session->rings[i].started) {
            return true;
        }
    }
    return false;
}

MAIN_LOOP CO_FN
static int get_features(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                        struct err **reterr)
{
    reply->u64 = session->server->ops->features | F_PROTOCOL;
    return VU_REPLIED;
}

MAIN_LOOP CO_FN
static int set_features(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                        struct err **reterr)
{
    uint64_t offered = session->server->ops->features | F_PROTOCOL;

    if ((msg->u64 & ~offered) != 0) {
        return err_set(reterr, EINVAL, "feature bits 0x%" PRIx64 " were never offered; 0x%" PRIx64
                       " were", msg->u64 & ~offered, offered);
    }
    if (msg->u64 != session->features && any_ring_started(session)) {
        return err_set(reterr, EBUSY, "features cannot change while rings run; GET_VRING_BASE "
                       "stops them");
    }
    session->features = msg->u64;
    session->server->ops->set_features(session->server->device, msg->u64 & ~F_PROTOCOL);
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int get_protocol_features(struct vu_session *session, struct vu_msg *msg,
                                 struct vu_msg *reply, struct err **reterr)
{
    reply->u64 = PROTOCOL_FEATURES;
    return VU_REPLIED;
}

MAIN_LOOP CO_FN
static int set_protocol_features(struct vu_session *session, struct vu_msg *msg,
                                 struct vu_msg *reply, struct err **reterr)
{
    if ((msg->u64 & ~PROTOCOL_FEATURES) != 0) {
        return err_set(reterr, EINVAL, "protocol feature bits 0x%" PRIx64 " were never offered; 0x%"
                       PRIx64 " were", msg->u64 & ~PROTOCOL_FEATURES, PROTOCOL_FEATURES);
    }
    session->protocol_features = msg->u64;
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int set_owner(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                     struct err **reterr)
{
    session->owner_set = true;
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int get_queue_num(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                         struct err **reterr)
{
    reply->u64 = session->ring_count;
    return VU_REPLIED;
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Building a table maps files: a pool thread does it. */
struct memory_call {
    struct guest_memory *from; /* NULL: none */
    const struct guest_region_def *defs;
    size_t count;
    struct guest_memory *made;
    struct err *error;
};

BLOCKING
static int64_t memory_new_call(void *opaque)
{
    struct memory_call *call = opaque;

    return guest_memory_new(call->defs, call->count, &call->made, &call->error);
}

BLOCKING
static int64_t memory_with_call(void *opaque)
{
    struct memory_call *call = opaque;

    return guest_memory_with(call->from, call->defs, &call->made, &call->error);
}

BLOCKING
static int64_t memory_without_call(void *opaque)
{
    struct memory_call *call = opaque;

    return guest_memory_without(call->from, call->defs, &call->made, &call->error);
}

/* (O3). Takes over the reference. */
MAIN_LOOP CO_FN
static int adopt_memory(struct vu_session *session, struct guest_memory *memory,
                        struct err **reterr)
{
    struct vu_server *server = session->server;
    int rc = 0;

    if (any_ring_started(session)) {
        rc = server->ops->co_set_memory(server->device, memory, reterr);
    }
    if (session->memory != NULL) {
        guest_memory_unref(session->memory);
    }
    session->memory = memory;
    return rc < 0 ? rc : VU_DONE;
}

MAIN_LOOP CO_FN
static int change_memory(struct vu_session *session, pool_fn *fn, struct memory_call *call,
                         struct err **reterr)
{
    int rc = (int)pool_co_call(NULL, fn, call);

    if (rc < 0) {
        err_propagate(reterr, call->error);
        return rc;
    }
    return adopt_memory(session, call->made, reterr);
}

MAIN_LOOP CO_FN
static int set_mem_table(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                         struct err **reterr)
{
    struct memory_call call = {.defs = msg->memory.regions, .count = msg->memory.count};

    vu_msg_forget_fds(msg);
    return change_memory(session, memory_new_call, &call, reterr);
}

MAIN_LOOP CO_FN
static int get_max_mem_slots(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                             struct err **reterr)
{
    reply->u64 = GUEST_REGIONS_MAX;
    return VU_REPLIED;
}

MAIN_LOOP CO_FN
static int add_mem_reg(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                       struct err **reterr)
{
    struct memory_call call = {.from = session->memory, .defs = &msg->region, .count = 1};

    vu_msg_forget_fds(msg);
    return change_memory(session, session->memory != NULL ? memory_with_call : memory_new_call,
                         &call, reterr);
}

MAIN_LOOP CO_FN
static int rem_mem_reg(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                       struct err **reterr)
{
    struct memory_call call = {.from = session->memory, .defs = &msg->region, .count = 1};

    if (session->memory == NULL) {
        return err_set(reterr, ENOENT, "there is no memory region yet");
    }
    return change_memory(session, memory_without_call, &call, reterr);
}

/* ---- rings -------------------------------------------------------------------------------- */

MAIN_LOOP
static struct vu_ring *find_ring(struct vu_session *session, uint32_t index, struct err **reterr)
{
    if (index < session->ring_count) {
        return &session->rings[index];
    }
    err_set(reterr, EINVAL, "ring %u does not exist; there are rings 0 to %u", index,
            session->ring_count - 1);
    return NULL;
}

/* As above, for what must not change under a running ring: (O2). */
MAIN_LOOP
static struct vu_ring *find_stopped_ring(struct vu_session *session, uint32_t index,
                                         struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, index, reterr);

    if (ring != NULL && ring->started) {
        err_set(reterr, EBUSY, "ring %u is running; GET_VRING_BASE stops it", index);
        return NULL;
    }
    return ring;
}

MAIN_LOOP CO_FN
static int set_vring_num(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                         struct err **reterr)
{
    struct vu_ring *ring = find_stopped_ring(session, msg->state.index, reterr);

    if (ring == NULL) {
        return -EINVAL;
    }
    if (msg->state.num > VIRTQ_SIZE_MAX || !is_power_of_two(msg->state.num)) {
        return err_set(reterr, EINVAL, "ring %u: size %u is not a power of two from 1 to %d",
                       msg->state.index, msg->state.num, VIRTQ_SIZE_MAX);
    }
    ring->size = (uint16_t)msg->state.num;
    ring->has |= VU_RING_HAS_NUM;
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int set_vring_addr(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                          struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, msg->addr.index, reterr);

    if (ring == NULL) {
        return -EINVAL;
    }
    if (msg->addr.flags != 0) {
        return err_set(reterr, EINVAL, "ring %u: flags 0x%x; a log of dirty memory (bit 0) was not "
                       "offered", msg->addr.index, msg->addr.flags);
    }
    if (ring->started && (ring->desc_user != msg->addr.desc_user ||
                          ring->avail_user != msg->addr.avail_user ||
                          ring->used_user != msg->addr.used_user)) {
        return err_set(reterr, EBUSY, "ring %u is running; GET_VRING_BASE stops it",
                       msg->addr.index);
    }
    ring->desc_user = msg->addr.desc_user;
    ring->avail_user = msg->addr.avail_user;
    ring->used_user = msg->addr.used_user;
    ring->has |= VU_RING_HAS_ADDR;
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int set_vring_base(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                          struct err **reterr)
{
    struct vu_ring *ring = find_stopped_ring(session, msg->state.index, reterr);

    if (ring == NULL) {
        return -EINVAL;
    }
    if (msg->state.num > UINT16_MAX) {
        return err_set(reterr, EINVAL, "ring %u: base %u is no index of a split ring (0 to 65535)",
                       msg->state.index, msg->state.num);
    }
    ring->base = (uint16_t)msg->state.num;
    return VU_DONE;
}

ANY_THREAD
static void close_fd(int *fd)
{
    if (*fd >= 0) {
        os_close_now(*fd);
        *fd = -1;
    }
}

/* Stop ring @index if it runs; its requests are waited for unless the front end goes. When it has
 * gone already, vu_session_co_let_go() lets the ring go. */
MAIN_LOOP CO_FN
static int ring_co_stop(struct vu_session *session, unsigned index)
{
    struct vu_ring *ring = &session->rings[index];
    uint32_t base = 0;
    int rc;

    if (!ring->started) {
        return 0;
    }
    if (session->gone) {
        return -ECANCELED;
    }
    session->stopping = (int)index;
    rc = session->server->ops->co_queue_stop(session->server->device, index, &base);
    session->stopping = -1;
    ring->started = false;
    if (rc == 0) {
        ring->base = (uint16_t)base;
    }
    close_fd(&ring->kick_fd);
    ring->has &= ~(unsigned)VU_RING_HAS_KICK;
    return rc;
}

MAIN_LOOP CO_FN
static int get_vring_base(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                          struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, msg->state.index, reterr);

    if (ring == NULL) {
        return -EINVAL;
    }
    ring_co_stop(session, msg->state.index);
    reply->state.index = msg->state.index;
    reply->state.num = ring->base;
    return VU_REPLIED;
}

MAIN_LOOP
static int check_startable(const struct vu_session *session, unsigned index, struct err **reterr)
{
    const struct vu_ring *ring = &session->rings[index];
    const char *missing = session->memory == NULL              ? "SET_MEM_TABLE"
                          : (ring->has & VU_RING_HAS_NUM) == 0 ? "SET_VRING_NUM"
                          : (ring->has & VU_RING_HAS_ADDR) == 0 ? "SET_VRING_ADDR"
                                                                : NULL;

    if (missing == NULL) {
        return 0;
    }
    return err_set(reterr, EINVAL, "ring %u cannot start: %s must come before SET_VRING_KICK",
                   index, missing);
}

MAIN_LOOP CO_FN
static int ring_co_start(struct vu_session *session, unsigned index, struct err **reterr)
{
    struct vu_ring *ring = &session->rings[index];
    struct vu_server *server = session->server;
    struct virtio_queue_setup setup = {
        .config = {.size = ring->size, .features = session->features & ~F_PROTOCOL,
                   .desc_user = ring->desc_user, .avail_user = ring->avail_user,
                   .used_user = ring->used_user, .next_avail = ring->base},
        .kick_fd = ring->kick_fd,
        .call_fd = ring->call_fd,
        .err_fd = ring->err_fd,
        .enabled = ring->enabled || (session->features & F_PROTOCOL) == 0, /* "Ring states" */
    };
    int rc = server->ops->co_queue_start(server->device, index, &setup, session->memory, reterr);

    ring->started = rc == 0;
    return rc;
}

/* Take the descriptor of @msg, fit for a loop: one that would block is made not to. -1: none. */
MAIN_LOOP
static int take_ring_fd(struct vu_msg *msg)
{
    int fd = msg->ring_fd.has_fd ? vu_msg_take_fd(msg, 0) : -1;

    if (fd >= 0) {
        os_fd_set_nonblocking(fd);
    }
    return fd;
}

MAIN_LOOP CO_FN
static int set_vring_kick(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                          struct err **reterr)
{
    struct vu_ring *ring = find_stopped_ring(session, msg->ring_fd.index, reterr);
    int rc;

    if (ring == NULL || (rc = check_startable(session, msg->ring_fd.index, reterr)) < 0) {
        return -EINVAL;
    }
    close_fd(&ring->kick_fd);
    ring->kick_fd = take_ring_fd(msg);
    ring->has |= VU_RING_HAS_KICK;
    rc = ring_co_start(session, msg->ring_fd.index, reterr);
    if (rc < 0) {
        close_fd(&ring->kick_fd);
        ring->has &= ~(unsigned)VU_RING_HAS_KICK;
    }
    return rc;
}

typedef void ring_fd_fn(void *device, unsigned index, int fd); /* label its definition CO_FN */

/* Put the descriptor of @msg in the place of @held, one of @ring's. A running ring is told of the
 * new one before the former is closed. */
MAIN_LOOP CO_FN
static int replace_ring_fd(struct vu_session *session, struct vu_msg *msg, struct vu_ring *ring,
                           int *held, NOTE_("ctx:co") ring_fd_fn *tell)
{
    int former = *held;

    *held = take_ring_fd(msg);
    if (ring->started) {
        tell(session->server->device, msg->ring_fd.index, *held);
    }
    close_fd(&former);
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int set_vring_call(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                          struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, msg->ring_fd.index, reterr);

    return ring == NULL ? -EINVAL
                        : replace_ring_fd(session, msg, ring, &ring->call_fd,
                                          session->server->ops->co_queue_set_call);
}

MAIN_LOOP CO_FN
static int set_vring_err(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                         struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, msg->ring_fd.index, reterr);

    return ring == NULL ? -EINVAL
                        : replace_ring_fd(session, msg, ring, &ring->err_fd,
                                          session->server->ops->co_queue_set_err);
}

MAIN_LOOP CO_FN
static void ring_co_enable(struct vu_session *session, unsigned index, bool enabled)
{
    struct vu_ring *ring = &session->rings[index];
    struct vu_server *server = session->server;

    ring->enabled = enabled;
    if (ring->started) {
        server->ops->co_queue_set_enabled(server->device, index, enabled);
    }
}

/* Front ends enable all rings at once, also those that the guest does not use: so one that is not
 * set up is no mistake, but worth a word. */
MAIN_LOOP CO_FN
static int set_vring_enable(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                            struct err **reterr)
{
    struct vu_ring *ring = find_ring(session, msg->state.index, reterr);

    if (ring == NULL) {
        return -EINVAL;
    }
    if (msg->state.num > 1) {
        return err_set(reterr, EINVAL, "ring %u: %u is neither 0 (disable) nor 1 (enable)",
                       msg->state.index, msg->state.num);
    }
    if (msg->state.num == 1 && (ring->has & VU_RING_HAS_ADDR) == 0) {
        log_info("export '%s': ring %u is enabled before it has addresses; it starts when "
                 "SET_VRING_ADDR and SET_VRING_KICK have come", session->server->name,
                 msg->state.index);
    }
    ring_co_enable(session, msg->state.index, msg->state.num == 1);
    return VU_DONE;
}

/* Deprecated; "use it to disable all rings". */
MAIN_LOOP CO_FN
static int reset_owner(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                       struct err **reterr)
{
    for (unsigned i = 0; i < session->ring_count; i++) {
        ring_co_enable(session, i, false);
    }
    return VU_DONE;
}

MAIN_LOOP CO_FN
static int reset_device(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                        struct err **reterr)
{
    for (unsigned i = 0; i < session->ring_count; i++) {
        struct vu_ring *ring = &session->rings[i];

        ring_co_stop(session, i);
        ring->has = 0;
        ring->enabled = false;
        ring->base = 0;
    }
    session->server->ops->co_reset(session->server->device);
    return VU_DONE;
}

/* ---- config space ------------------------------------------------------------------------- */

/* Any place and size up to 256 bytes, zero beyond the device's own. */
MAIN_LOOP CO_FN
static int get_config(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                      struct err **reterr)
{
    struct vu_server *server = session->server;

    reply->config.offset = msg->config.offset;
    reply->config.flags = msg->config.flags;
    if (!range_is_inside(msg->config.offset, msg->config.bytes, VU_CONFIG_BYTES_MAX)) {
        vu_server_complain(server, "GET_CONFIG: offset %u and size %u go beyond the %d bytes there "
                           "are", msg->config.offset, msg->config.bytes, VU_CONFIG_BYTES_MAX);
        reply->config.bytes = 0; /* "zero length of payload to indicate an error" */
        return VU_REPLIED;
    }
    reply->config.bytes = msg->config.bytes;
    server->ops->config_read(server->device, msg->config.offset, msg->config.bytes,
                             reply->config.data);
    return VU_REPLIED;
}

MAIN_LOOP CO_FN
static int set_config(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
                      struct err **reterr)
{
    struct vu_server *server = session->server;
    int rc = server->ops->config_write(server->device, msg->config.offset, msg->config.bytes,
                                       msg->config.data);

    if (rc < 0) {
        return err_set(reterr, -rc, "%u bytes at offset %u: only writable fields can be changed, "
                       "and to values they may have", msg->config.bytes, msg->config.offset);
    }
    return VU_DONE;
}

/* ---- the table ---------------------------------------------------------------------------- */

static const struct {
    CO_SLOT MAIN_SLOT vu_handler *fn;
} handlers[VU_REQUEST_MAX_] = {
    [VU_GET_FEATURES] = {get_features},
    [VU_SET_FEATURES] = {set_features},
    [VU_SET_OWNER] = {set_owner},
    [VU_RESET_OWNER] = {reset_owner},
    [VU_SET_MEM_TABLE] = {set_mem_table},
    [VU_SET_VRING_NUM] = {set_vring_num},
    [VU_SET_VRING_ADDR] = {set_vring_addr},
    [VU_SET_VRING_BASE] = {set_vring_base},
    [VU_GET_VRING_BASE] = {get_vring_base},
    [VU_SET_VRING_KICK] = {set_vring_kick},
    [VU_SET_VRING_CALL] = {set_vring_call},
    [VU_SET_VRING_ERR] = {set_vring_err},
    [VU_GET_PROTOCOL_FEATURES] = {get_protocol_features},
    [VU_SET_PROTOCOL_FEATURES] = {set_protocol_features},
    [VU_GET_QUEUE_NUM] = {get_queue_num},
    [VU_SET_VRING_ENABLE] = {set_vring_enable},
    [VU_GET_CONFIG] = {get_config},
    [VU_SET_CONFIG] = {set_config},
    [VU_RESET_DEVICE] = {reset_device},
    [VU_GET_MAX_MEM_SLOTS] = {get_max_mem_slots},
    [VU_ADD_MEM_REG] = {add_mem_reg},
    [VU_REM_MEM_REG] = {rem_mem_reg},
};

int vu_handle(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
              struct err **reterr)
{
    if (handlers[msg->request].fn == NULL) {
        return err_set(reterr, EOPNOTSUPP, "was not offered");
    }
    return handlers[msg->request].fn(session, msg, reply, reterr);
}

void vu_session_co_let_go(struct vu_session *session)
{
    struct vu_server *server = session->server;

    for (unsigned i = 0; i < session->ring_count; i++) {
        struct vu_ring *ring = &session->rings[i];

        if (ring->started) {
            server->ops->co_queue_abandon(server->device, i);
        }
        close_fd(&ring->kick_fd);
        close_fd(&ring->call_fd);
        close_fd(&ring->err_fd);
    }
    if (session->memory != NULL) {
        guest_memory_unref(take(&session->memory));
    }
    server->ops->co_reset(server->device);
}
