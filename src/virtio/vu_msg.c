/*
 * vu_msg.c -- vhost-user messages: bytes to checked values and back.
 *
 * (M1) One table says for each request what its payload and its reply's payload look like and which
 *      descriptors travel with them; parse and encode read nothing else.
 * (M2) A payload is exactly as long as its kind says. Kinds that carry their own length
 *      (SET_MEM_TABLE, the config messages) must agree with the header.
 * (M3) A descriptor belongs to exactly one side: the caller until vu_msg_parse() succeeds, then the
 *      message, then whoever takes it.
 */
#include "virtio/vu_msg.h"
#include "base/checked.h"
#include "os/file.h"
#include "os/socket.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static_assert((int)VU_FDS_MAX == (int)OS_SOCKET_FDS_MAX, "what one receive can bring");
static_assert((int)VU_REGIONS_MAX <= (int)VU_FDS_MAX, "each region has a descriptor");
static_assert(12 + VU_CONFIG_BYTES_MAX <= (int)VU_PAYLOAD_BYTES_MAX, "the longest other payload");

enum header_flags { FLAG_VERSION_MASK = 3, FLAG_REPLY = 1 << 2, FLAG_NEED_REPLY = 1 << 3 };
enum { RING_FD_INDEX_MASK = 0xff, RING_FD_NONE = 1 << 8 };

enum payload_kind {
    NO_PAYLOAD,
    PAYLOAD_U64,
    PAYLOAD_STATE,
    PAYLOAD_ADDR,
    PAYLOAD_RING_FD,
    PAYLOAD_MEMORY,
    PAYLOAD_REGION,
    PAYLOAD_LOG,
    PAYLOAD_CONFIG,
    PAYLOAD_INFLIGHT,
    PAYLOAD_DEVICE_STATE,
};

enum fd_rule {
    NO_FDS,
    ONE_FD,
    FD_OPTIONAL,
    FD_BY_RING_BIT, /* one, unless bit 8 of the payload says none */
    FD_PER_REGION,
};

struct request_info {
    const char *name; /* NULL: no such request */
    enum payload_kind payload, reply; /* reply NO_PAYLOAD: none, or an acknowledgement */
    enum fd_rule fds, reply_fds;
};

static const struct request_info requests[VU_REQUEST_MAX_] = {
    [VU_GET_FEATURES] = {"GET_FEATURES", .reply = PAYLOAD_U64},
    [VU_SET_FEATURES] = {"SET_FEATURES", PAYLOAD_U64},
    [VU_SET_OWNER] = {"SET_OWNER"},
    [VU_RESET_OWNER] = {"RESET_OWNER"},
    [VU_SET_MEM_TABLE] = {"SET_MEM_TABLE", PAYLOAD_MEMORY, .fds = FD_PER_REGION},
    [VU_SET_LOG_BASE] = {"SET_LOG_BASE", PAYLOAD_LOG, PAYLOAD_U64, .fds = ONE_FD},
    [VU_SET_LOG_FD] = {"SET_LOG_FD", .fds = ONE_FD},
    [VU_SET_VRING_NUM] = {"SET_VRING_NUM", PAYLOAD_STATE},
    [VU_SET_VRING_ADDR] = {"SET_VRING_ADDR", PAYLOAD_ADDR},
    [VU_SET_VRING_BASE] = {"SET_VRING_BASE", PAYLOAD_STATE},
    [VU_GET_VRING_BASE] = {"GET_VRING_BASE", PAYLOAD_STATE, PAYLOAD_STATE},
    [VU_SET_VRING_KICK] = {"SET_VRING_KICK", PAYLOAD_RING_FD, .fds = FD_BY_RING_BIT},
    [VU_SET_VRING_CALL] = {"SET_VRING_CALL", PAYLOAD_RING_FD, .fds = FD_BY_RING_BIT},
    [VU_SET_VRING_ERR] = {"SET_VRING_ERR", PAYLOAD_RING_FD, .fds = FD_BY_RING_BIT},
    [VU_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", .reply = PAYLOAD_U64},
    [VU_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", PAYLOAD_U64},
    [VU_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", .reply = PAYLOAD_U64},
    [VU_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", PAYLOAD_STATE},
    [VU_SET_BACKEND_REQ_FD] = {"SET_BACKEND_REQ_FD", .fds = ONE_FD},
    [VU_GET_CONFIG] = {"GET_CONFIG", PAYLOAD_CONFIG, PAYLOAD_CONFIG},
    [VU_SET_CONFIG] = {"SET_CONFIG", PAYLOAD_CONFIG},
    [VU_GET_INFLIGHT_FD] = {"GET_INFLIGHT_FD", PAYLOAD_INFLIGHT, PAYLOAD_INFLIGHT,
                            .reply_fds = FD_OPTIONAL},
    [VU_SET_INFLIGHT_FD] = {"SET_INFLIGHT_FD", PAYLOAD_INFLIGHT, .fds = ONE_FD},
    [VU_RESET_DEVICE] = {"RESET_DEVICE"},
    [VU_GET_MAX_MEM_SLOTS] = {"GET_MAX_MEM_SLOTS", .reply = PAYLOAD_U64},
    [VU_ADD_MEM_REG] = {"ADD_MEM_REG", PAYLOAD_REGION, .fds = ONE_FD},
    /* Some front ends send a descriptor along with what they take away. */
    [VU_REM_MEM_REG] = {"REM_MEM_REG", PAYLOAD_REGION, .fds = FD_OPTIONAL},
    [VU_SET_STATUS] = {"SET_STATUS", PAYLOAD_U64},
    [VU_GET_STATUS] = {"GET_STATUS", .reply = PAYLOAD_U64},
    [VU_SET_DEVICE_STATE_FD] = {"SET_DEVICE_STATE_FD", PAYLOAD_DEVICE_STATE, PAYLOAD_U64,
                                .fds = ONE_FD, .reply_fds = FD_OPTIONAL},
    [VU_CHECK_DEVICE_STATE] = {"CHECK_DEVICE_STATE", .reply = PAYLOAD_U64},
};

/* The payloads as they travel. */
struct wire_region {
    uint64_t guest_address, bytes, user_address, mmap_offset;
};
struct wire_memory {
    uint32_t count, padding;
    struct wire_region regions[VU_REGIONS_MAX];
};
struct wire_one_region {
    uint64_t padding;
    struct wire_region region;
};
struct wire_config {
    uint32_t offset, bytes, flags;
    uint8_t data[VU_CONFIG_BYTES_MAX];
};
struct wire_inflight {
    uint64_t bytes, offset;
    uint16_t queues, queue_size;
    uint32_t padding; /* not in the document; today's programs send their C struct, 24 bytes */
};
enum { WIRE_INFLIGHT_SHORT_BYTES = 20 };
static_assert(sizeof(struct vu_vring_state) == 8, "travels as it is");
static_assert(sizeof(struct vu_vring_addr) == 40, "travels as it is");
static_assert(sizeof(struct vu_log) == 16, "travels as it is");
static_assert(sizeof(struct vu_device_state) == 8, "travels as it is");
static_assert(offsetof(struct wire_memory, regions) == 8, "Memory regions description");
static_assert(offsetof(struct wire_config, data) == 12, "Virtio device config space");
static_assert(offsetof(struct wire_inflight, padding) == WIRE_INFLIGHT_SHORT_BYTES,
              "Inflight description");
static_assert(sizeof(struct wire_memory) == VU_PAYLOAD_BYTES_MAX, "the longest payload");

static const struct request_info *request_info(uint32_t request)
{
    if (request >= VU_REQUEST_MAX_ || requests[request].name == NULL) {
        return NULL;
    }
    return &requests[request];
}

const char *vu_request_name(uint32_t request)
{
    const struct request_info *info = request_info(request);

    return info == NULL ? "unknown" : info->name;
}

bool vu_request_has_reply(enum vu_request request)
{
    const struct request_info *info = request_info(request);

    return info != NULL && info->reply != NO_PAYLOAD;
}

static enum payload_kind payload_kind(const struct request_info *info, enum vu_direction direction)
{
    if (direction == VU_TO_BACKEND) {
        return info->payload;
    }
    /* Also the refusal of a request that nobody knows. */
    return info == NULL || info->reply == NO_PAYLOAD ? PAYLOAD_U64 : info->reply;
}

/* ---- header -------------------------------------------------------------------------------- */

int vu_header_parse(const uint8_t bytes[VU_HEADER_BYTES], enum vu_direction direction,
                    struct vu_header *ret_header, struct err **reterr)
{
    uint32_t word[3];
    const char *name;

    memcpy(word, bytes, sizeof(word));
    name = vu_request_name(word[0]);
    if ((word[1] & FLAG_VERSION_MASK) != VU_VERSION) {
        return err_set(reterr, EPROTO, "message %" PRIu32 " (%s): version %" PRIu32 ", expected %d",
                       word[0], name, word[1] & FLAG_VERSION_MASK, VU_VERSION);
    }
    if ((word[1] & ~(uint32_t)(FLAG_VERSION_MASK | FLAG_REPLY | FLAG_NEED_REPLY)) != 0) {
        return err_set(reterr, EPROTO, "message %" PRIu32 " (%s): flags 0x%" PRIx32
                       " have bits without a meaning", word[0], name, word[1]);
    }
    if (((word[1] & FLAG_REPLY) != 0) != (direction == VU_TO_FRONTEND)) {
        return err_set(reterr, EPROTO, "message %" PRIu32 " (%s): the reply flag is %s", word[0],
                       name, direction == VU_TO_FRONTEND ? "missing" : "set on a request");
    }
    if (word[2] > VU_PAYLOAD_BYTES_MAX) {
        return err_set(reterr, EPROTO, "message %" PRIu32 " (%s): payload of %" PRIu32
                       " bytes, at most %d are allowed", word[0], name, word[2],
                       VU_PAYLOAD_BYTES_MAX);
    }
    *ret_header = (struct vu_header){
        .request = word[0],
        .payload_bytes = word[2],
        .need_reply = (word[1] & FLAG_NEED_REPLY) != 0,
    };
    return 0;
}

/* ---- payloads ------------------------------------------------------------------------------ */

static struct guest_region_def region_from_wire(const struct wire_region *wire, int fd)
{
    return (struct guest_region_def){
        .guest_address = wire->guest_address,
        .bytes = wire->bytes,
        .user_address = wire->user_address,
        .mmap_offset = wire->mmap_offset,
        .fd = fd,
    };
}

static struct wire_region region_to_wire(const struct guest_region_def *def)
{
    return (struct wire_region){def->guest_address, def->bytes, def->user_address,
                                def->mmap_offset};
}

static int size_is(const struct vu_header *header, size_t expected, struct err **reterr)
{
    if (header->payload_bytes != expected) {
        return err_set(reterr, EPROTO, "%s: payload of %" PRIu32 " bytes, expected %zu",
                       vu_request_name(header->request), header->payload_bytes, expected);
    }
    return 0;
}

static int parse_ring_fd(const struct vu_header *header, const uint8_t *payload,
                         struct vu_msg *msg, struct err **reterr)
{
    uint64_t value;

    memcpy(&value, payload, sizeof(value));
    if ((value & ~(uint64_t)(RING_FD_INDEX_MASK | RING_FD_NONE)) != 0) {
        return err_set(reterr, EPROTO, "%s: payload 0x%" PRIx64 " has bits without a meaning",
                       vu_request_name(header->request), value);
    }
    msg->ring_fd = (struct vu_vring_fd){
        .index = (uint32_t)(value & RING_FD_INDEX_MASK),
        .has_fd = (value & RING_FD_NONE) == 0,
    };
    return 0;
}

static int parse_memory(const struct vu_header *header, const uint8_t *payload,
                        struct vu_msg *msg, struct err **reterr)
{
    struct wire_memory wire = {0};

    if (header->payload_bytes < offsetof(struct wire_memory, regions)) {
        return size_is(header, offsetof(struct wire_memory, regions), reterr);
    }
    memcpy(&wire, payload, header->payload_bytes);
    if (wire.count > VU_REGIONS_MAX) {
        return err_set(reterr, EPROTO, "SET_MEM_TABLE: %" PRIu32 " regions, at most %d fit in one "
                       "message", wire.count, VU_REGIONS_MAX);
    }
    /* Front ends may send room for all eight regions of the protocol's first days: (M2) bounds
     * it. */
    if (header->payload_bytes < 8 + wire.count * sizeof(struct wire_region)) {
        return size_is(header, 8 + wire.count * sizeof(struct wire_region), reterr);
    }
    msg->memory.count = wire.count;
    for (uint32_t i = 0; i < wire.count; i++) {
        msg->memory.regions[i] = region_from_wire(&wire.regions[i], -1);
    }
    return 0;
}

static int parse_region(const struct vu_header *header, const uint8_t *payload,
                        struct vu_msg *msg, struct err **reterr)
{
    struct wire_one_region wire;
    int rc = size_is(header, sizeof(wire), reterr);

    if (rc < 0) {
        return rc;
    }
    memcpy(&wire, payload, sizeof(wire));
    msg->region = region_from_wire(&wire.region, -1);
    return 0;
}

/* A request to read may leave the room for the answer out; a reply without any payload says
 * "no". */
static int parse_config(const struct vu_header *header, enum vu_direction direction,
                        const uint8_t *payload, struct vu_msg *msg, struct err **reterr)
{
    const size_t head = offsetof(struct wire_config, data);
    bool may_be_short = header->request == VU_GET_CONFIG;
    struct wire_config wire = {0};

    if (direction == VU_TO_FRONTEND && header->payload_bytes == 0) {
        msg->config = (struct vu_config){0};
        return 0;
    }
    if (header->payload_bytes < head || header->payload_bytes > sizeof(wire)) {
        return size_is(header, head, reterr);
    }
    memcpy(&wire, payload, header->payload_bytes);
    if (wire.bytes > VU_CONFIG_BYTES_MAX || wire.offset > VU_CONFIG_BYTES_MAX) {
        return err_set(reterr, EPROTO, "%s: offset %" PRIu32 ", %" PRIu32 " bytes: config space "
                       "ends at %d", vu_request_name(header->request), wire.offset, wire.bytes,
                       VU_CONFIG_BYTES_MAX);
    }
    if (header->payload_bytes != head + wire.bytes &&
        !(may_be_short && header->payload_bytes == head)) {
        return size_is(header, head + wire.bytes, reterr);
    }
    msg->config = (struct vu_config){wire.offset, wire.bytes, wire.flags, {0}};
    memcpy(msg->config.data, wire.data, wire.bytes);
    return 0;
}

static int parse_inflight(const struct vu_header *header, const uint8_t *payload,
                          struct vu_msg *msg, struct err **reterr)
{
    struct wire_inflight wire = {0};

    if (header->payload_bytes != WIRE_INFLIGHT_SHORT_BYTES) {
        int rc = size_is(header, sizeof(wire), reterr);

        if (rc < 0) {
            return rc;
        }
    }
    memcpy(&wire, payload, header->payload_bytes);
    msg->inflight = (struct vu_inflight){wire.bytes, wire.offset, wire.queues, wire.queue_size};
    return 0;
}

/* For payloads that travel as the struct they become. */
static int parse_plain(const struct vu_header *header, const uint8_t *payload, void *to,
                       size_t bytes, struct err **reterr)
{
    int rc = size_is(header, bytes, reterr);

    if (rc == 0) {
        memcpy(to, payload, bytes);
    }
    return rc;
}

static int parse_payload(const struct vu_header *header, enum vu_direction direction,
                         enum payload_kind kind, const uint8_t *payload, struct vu_msg *msg,
                         struct err **reterr)
{
    int rc;

    switch (kind) {
    case NO_PAYLOAD:
        return size_is(header, 0, reterr);
    case PAYLOAD_U64:
        return parse_plain(header, payload, &msg->u64, sizeof(msg->u64), reterr);
    case PAYLOAD_STATE:
        return parse_plain(header, payload, &msg->state, sizeof(msg->state), reterr);
    case PAYLOAD_ADDR:
        return parse_plain(header, payload, &msg->addr, sizeof(msg->addr), reterr);
    case PAYLOAD_LOG:
        return parse_plain(header, payload, &msg->log, sizeof(msg->log), reterr);
    case PAYLOAD_DEVICE_STATE:
        return parse_plain(header, payload, &msg->device_state, sizeof(msg->device_state), reterr);
    case PAYLOAD_RING_FD:
        rc = size_is(header, sizeof(uint64_t), reterr);
        return rc < 0 ? rc : parse_ring_fd(header, payload, msg, reterr);
    case PAYLOAD_MEMORY:
        return parse_memory(header, payload, msg, reterr);
    case PAYLOAD_REGION:
        return parse_region(header, payload, msg, reterr);
    case PAYLOAD_CONFIG:
        return parse_config(header, direction, payload, msg, reterr);
    case PAYLOAD_INFLIGHT:
        return parse_inflight(header, payload, msg, reterr);
    }
    unreachable();
}

/* ---- descriptors --------------------------------------------------------------------------- */

static int check_fds(const struct vu_msg *msg, enum fd_rule rule, unsigned count,
                     struct err **reterr)
{
    unsigned least = 0, most = 0;

    switch (rule) {
    case NO_FDS:
        break;
    case ONE_FD:
        least = most = 1;
        break;
    case FD_OPTIONAL:
        most = 1;
        break;
    case FD_BY_RING_BIT:
        least = most = msg->ring_fd.has_fd ? 1 : 0;
        break;
    case FD_PER_REGION:
        least = most = msg->memory.count;
        break;
    }
    if (count < least || count > most) {
        return err_set(reterr, EPROTO, "%s: %u file descriptors came along, expected %u",
                       vu_request_name(msg->request), count, most);
    }
    return 0;
}

static void hand_over_fds(struct vu_msg *msg, enum payload_kind kind, const int *fds,
                          unsigned count)
{
    msg->fd_count = count;
    for (unsigned i = 0; i < count; i++) {
        msg->fds[i] = fds[i];
        if (kind == PAYLOAD_MEMORY) {
            msg->memory.regions[i].fd = fds[i];
        }
    }
    if (kind == PAYLOAD_REGION && count == 1) {
        msg->region.fd = fds[0];
    }
}

int vu_msg_parse(const struct vu_header *header, enum vu_direction direction,
                 const uint8_t *payload, const int *fds, unsigned fd_count,
                 struct vu_msg *ret_msg, struct err **reterr)
{
    const struct request_info *info = request_info(header->request);
    enum payload_kind kind;
    int rc;

    if (info == NULL) {
        return err_set(reterr, EOPNOTSUPP, "message %" PRIu32 " is unknown", header->request);
    }
    kind = payload_kind(info, direction);
    *ret_msg = (struct vu_msg){
        .request = (enum vu_request)header->request,
        .need_reply = header->need_reply,
        .is_ack = direction == VU_TO_FRONTEND && info->reply == NO_PAYLOAD,
    };
    rc = parse_payload(header, direction, kind, payload, ret_msg, reterr);
    if (rc == 0) {
        rc = check_fds(ret_msg, direction == VU_TO_BACKEND ? info->fds : info->reply_fds, fd_count,
                       reterr);
    }
    if (rc == 0) {
        hand_over_fds(ret_msg, kind, fds, fd_count);
    }
    return rc;
}

int vu_msg_take_fd(struct vu_msg *msg, unsigned i)
{
    int fd;

    assert(i < msg->fd_count);
    fd = msg->fds[i];
    msg->fds[i] = -1;
    return fd;
}

void vu_msg_forget_fds(struct vu_msg *msg)
{
    msg->fd_count = 0;
}

static void close_fds(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            (void)os_close_now(fds[i]);
            fds[i] = -1;
        }
    }
}

void vu_msg_fini(struct vu_msg *msg)
{
    close_fds(msg->fds, msg->fd_count);
    msg->fd_count = 0;
}

/* ---- a stream cut into messages ------------------------------------------------------------ */

void vu_reader_init(struct vu_reader *reader, enum vu_direction direction)
{
    reader->direction = direction;
    reader->have = 0;
    reader->fd_count = 0;
    reader->header = (struct vu_header){0};
}

void vu_reader_fini(struct vu_reader *reader)
{
    close_fds(reader->fds, reader->fd_count);
    vu_reader_init(reader, reader->direction);
}

static size_t reader_goal(const struct vu_reader *reader)
{
    return reader->have < VU_HEADER_BYTES ? VU_HEADER_BYTES
                                          : VU_HEADER_BYTES + reader->header.payload_bytes;
}

void vu_reader_place(struct vu_reader *reader, void **ret_to, size_t *ret_bytes)
{
    *ret_to = reader->bytes + reader->have;
    *ret_bytes = reader_goal(reader) - reader->have;
}

static int reader_keep_fds(struct vu_reader *reader, const int *fds, int fd_count,
                           struct err **reterr)
{
    unsigned came = fd_count < 0 ? 0 : (unsigned)fd_count;
    unsigned held = min_of(came, (unsigned)VU_FDS_MAX);

    if (came > VU_FDS_MAX || reader->fd_count + came > VU_FDS_MAX) {
        for (unsigned i = 0; i < held; i++) {
            (void)os_close_now(fds[i]);
        }
        return err_set(reterr, EPROTO, "%u file descriptors in one message, at most %d are allowed",
                       reader->fd_count + came, VU_FDS_MAX);
    }
    for (unsigned i = 0; i < came; i++) {
        reader->fds[reader->fd_count++] = fds[i];
    }
    return 0;
}

int vu_reader_received(struct vu_reader *reader, size_t bytes, const int *fds, int fd_count,
                       struct err **reterr)
{
    int rc = reader_keep_fds(reader, fds, fd_count, reterr);

    assert(bytes <= reader_goal(reader) - reader->have);
    if (rc < 0) {
        return rc;
    }
    if (reader->have < VU_HEADER_BYTES && reader->have + bytes == VU_HEADER_BYTES) {
        rc = vu_header_parse(reader->bytes, reader->direction, &reader->header, reterr);
        if (rc < 0) {
            return rc;
        }
    }
    reader->have += bytes;
    return reader->have >= VU_HEADER_BYTES && reader->have == reader_goal(reader);
}

int vu_reader_take(struct vu_reader *reader, struct vu_msg *ret_msg, struct err **reterr)
{
    int rc;

    assert(reader->have == VU_HEADER_BYTES + reader->header.payload_bytes);
    rc = vu_msg_parse(&reader->header, reader->direction, reader->bytes + VU_HEADER_BYTES,
                      reader->fds, reader->fd_count, ret_msg, reterr);
    if (rc < 0) {
        close_fds(reader->fds, reader->fd_count);
    }
    reader->have = 0;
    reader->fd_count = 0;
    return rc;
}

bool vu_reader_is_midway(const struct vu_reader *reader)
{
    return reader->have > 0;
}

/* ---- to bytes ------------------------------------------------------------------------------ */

static size_t encode_memory(const struct vu_memory_table *table, uint8_t *to)
{
    struct wire_memory wire = {.count = table->count};
    size_t bytes = offsetof(struct wire_memory, regions) + table->count * sizeof(wire.regions[0]);

    assert(table->count <= VU_REGIONS_MAX);
    for (uint32_t i = 0; i < table->count; i++) {
        wire.regions[i] = region_to_wire(&table->regions[i]);
    }
    memcpy(to, &wire, bytes);
    return bytes;
}

static size_t encode_config(const struct vu_config *config, enum vu_direction direction,
                            uint8_t *to)
{
    struct wire_config wire = {.offset = config->offset, .bytes = config->bytes,
                               .flags = config->flags};
    size_t bytes = offsetof(struct wire_config, data) + config->bytes;

    assert(config->bytes <= VU_CONFIG_BYTES_MAX);
    if (direction == VU_TO_FRONTEND && config->bytes == 0) {
        return 0;
    }
    memcpy(wire.data, config->data, config->bytes);
    memcpy(to, &wire, bytes);
    return bytes;
}

static size_t encode_ring_fd(const struct vu_vring_fd *ring_fd, uint8_t *to)
{
    uint64_t value = ring_fd->index | (ring_fd->has_fd ? 0 : (uint64_t)RING_FD_NONE);

    assert(ring_fd->index <= RING_FD_INDEX_MASK);
    memcpy(to, &value, sizeof(value));
    return sizeof(value);
}

static size_t encode_plain(const void *from, size_t bytes, uint8_t *to)
{
    memcpy(to, from, bytes);
    return bytes;
}

static size_t encode_payload(const struct vu_msg *msg, enum vu_direction direction,
                             enum payload_kind kind, uint8_t *to)
{
    switch (kind) {
    case NO_PAYLOAD:
        return 0;
    case PAYLOAD_U64:
        return encode_plain(&msg->u64, sizeof(msg->u64), to);
    case PAYLOAD_STATE:
        return encode_plain(&msg->state, sizeof(msg->state), to);
    case PAYLOAD_ADDR:
        return encode_plain(&msg->addr, sizeof(msg->addr), to);
    case PAYLOAD_LOG:
        return encode_plain(&msg->log, sizeof(msg->log), to);
    case PAYLOAD_DEVICE_STATE:
        return encode_plain(&msg->device_state, sizeof(msg->device_state), to);
    case PAYLOAD_RING_FD:
        return encode_ring_fd(&msg->ring_fd, to);
    case PAYLOAD_MEMORY:
        return encode_memory(&msg->memory, to);
    case PAYLOAD_REGION: {
        struct wire_one_region wire = {.region = region_to_wire(&msg->region)};

        return encode_plain(&wire, sizeof(wire), to);
    }
    case PAYLOAD_CONFIG:
        return encode_config(&msg->config, direction, to);
    case PAYLOAD_INFLIGHT: {
        struct wire_inflight wire = {msg->inflight.bytes, msg->inflight.offset,
                                     msg->inflight.queues, msg->inflight.queue_size, 0};

        return encode_plain(&wire, sizeof(wire), to);
    }
    }
    unreachable();
}

size_t vu_msg_encode(const struct vu_msg *msg, enum vu_direction direction,
                     uint8_t to[VU_MSG_BYTES_MAX])
{
    const struct request_info *info = request_info(msg->request);
    uint32_t flags = VU_VERSION;
    uint32_t word[3];
    size_t bytes;

    assert(info != NULL || direction == VU_TO_FRONTEND);
    if (direction == VU_TO_FRONTEND) {
        flags |= FLAG_REPLY;
    } else if (msg->need_reply) {
        flags |= FLAG_NEED_REPLY;
    }
    bytes = encode_payload(msg, direction, payload_kind(info, direction), to + VU_HEADER_BYTES);
    word[0] = msg->request;
    word[1] = flags;
    word[2] = (uint32_t)bytes;
    memcpy(to, word, sizeof(word));
    return VU_HEADER_BYTES + bytes;
}
