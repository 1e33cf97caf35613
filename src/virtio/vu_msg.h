/*
 * vu_msg.h -- vhost-user messages as plain, checked values; both roles use it.
 *
 * What comes from a socket becomes a struct vu_msg in one place (vu_msg_parse) or an error that
 * names the message and what is wrong with it. Nothing above sees raw bytes. Numbers are in machine
 * byte order, as the protocol says ("Message Specification").
 */
#pragma once
#include "base/ctx.h"
#include "base/err.h"
#include "virtio/memory.h"

enum {
    VU_VERSION = 1,
    VU_FDS_MAX = 32,         /* descriptors in one message; OS_SOCKET_FDS_MAX */
    VU_REGIONS_MAX = 32,     /* of SET_MEM_TABLE: each comes with a descriptor */
    VU_CONFIG_BYTES_MAX = 256,
    VU_HEADER_BYTES = 12,
    VU_PAYLOAD_BYTES_MAX = 8 + 32 * VU_REGIONS_MAX,
    VU_MSG_BYTES_MAX = VU_HEADER_BYTES + VU_PAYLOAD_BYTES_MAX,
};

enum vu_request { /* "Front-end message types" */
    VU_GET_FEATURES = 1,
    VU_SET_FEATURES = 2,
    VU_SET_OWNER = 3,
    VU_RESET_OWNER = 4,
    VU_SET_MEM_TABLE = 5,
    VU_SET_LOG_BASE = 6,
    VU_SET_LOG_FD = 7,
    VU_SET_VRING_NUM = 8,
    VU_SET_VRING_ADDR = 9,
    VU_SET_VRING_BASE = 10,
    VU_GET_VRING_BASE = 11,
    VU_SET_VRING_KICK = 12,
    VU_SET_VRING_CALL = 13,
    VU_SET_VRING_ERR = 14,
    VU_GET_PROTOCOL_FEATURES = 15,
    VU_SET_PROTOCOL_FEATURES = 16,
    VU_GET_QUEUE_NUM = 17,
    VU_SET_VRING_ENABLE = 18,
    VU_SET_BACKEND_REQ_FD = 21,
    VU_GET_CONFIG = 24,
    VU_SET_CONFIG = 25,
    VU_GET_INFLIGHT_FD = 31,
    VU_SET_INFLIGHT_FD = 32,
    VU_RESET_DEVICE = 34,
    VU_GET_MAX_MEM_SLOTS = 36,
    VU_ADD_MEM_REG = 37,
    VU_REM_MEM_REG = 38,
    VU_SET_STATUS = 39,
    VU_GET_STATUS = 40,
    VU_SET_DEVICE_STATE_FD = 42,
    VU_CHECK_DEVICE_STATE = 43,
    VU_REQUEST_MAX_,
};

enum vu_protocol_feature { /* bit numbers; "Protocol features" */
    VU_PROTOCOL_F_MQ = 0,
    VU_PROTOCOL_F_LOG_SHMFD = 1,
    VU_PROTOCOL_F_REPLY_ACK = 3,
    VU_PROTOCOL_F_BACKEND_REQ = 5,
    VU_PROTOCOL_F_CONFIG = 9,
    VU_PROTOCOL_F_BACKEND_SEND_FD = 10,
    VU_PROTOCOL_F_INFLIGHT_SHMFD = 12,
    VU_PROTOCOL_F_RESET_DEVICE = 13,
    VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
    VU_PROTOCOL_F_STATUS = 16,
    VU_PROTOCOL_F_DEVICE_STATE = 19,
};

enum vu_vring_addr_flags { VU_VRING_F_LOG = 1 << 0 };

enum vu_direction {
    VU_TO_BACKEND, /* a request; the back end parses it */
    VU_TO_FRONTEND, /* its reply; the front end parses it */
};

struct vu_vring_state { /* SET_VRING_NUM, _BASE, _ENABLE, GET_VRING_BASE */
    uint32_t index, num;
};
struct vu_vring_addr {
    uint32_t index, flags;
    uint64_t desc_user, used_user, avail_user;
    uint64_t log_guest;
};
struct vu_vring_fd { /* KICK, CALL, ERR */
    uint32_t index;
    bool has_fd; /* then it is fds[0] */
};
struct vu_memory_table {
    uint32_t count;
    struct guest_region_def regions[VU_REGIONS_MAX]; /* .fd repeats fds[i] */
};
struct vu_log {
    uint64_t bytes, offset;
};
struct vu_config {
    uint32_t offset, bytes, flags; /* as a reply: bytes 0 means "no" */
    uint8_t data[VU_CONFIG_BYTES_MAX];
};
struct vu_inflight {
    uint64_t bytes, offset;
    uint16_t queues, queue_size;
};
struct vu_device_state {
    uint32_t direction, phase;
};

struct vu_msg {
    enum vu_request request;
    bool need_reply; /* REPLY_ACK: the sender waits for an answer even where none is usual */
    bool is_ack;     /* a reply without a body of its own: u64 is 0 for success */
    union {          /* which one: by request and direction */
        uint64_t u64;
        struct vu_vring_state state;
        struct vu_vring_addr addr;
        struct vu_vring_fd ring_fd;
        struct vu_memory_table memory;
        struct guest_region_def region; /* ADD_MEM_REG, REM_MEM_REG; .fd is fds[0] or -1 */
        struct vu_log log;
        struct vu_config config;
        struct vu_inflight inflight;
        struct vu_device_state device_state;
    };
    unsigned fd_count;
    int fds[VU_FDS_MAX]; /* the message's, until taken */
};

CTX_ANY_BEGIN

/* "SET_MEM_TABLE"; "message 99" is "unknown". */
const char *vu_request_name(uint32_t request);
/* Has the request a reply of its own, whether asked for with need_reply or not? */
bool vu_request_has_reply(enum vu_request request);

/* ---- from bytes ---------------------------------------------------------------------------- */

struct vu_header {
    uint32_t request; /* any number: known or not */
    uint32_t payload_bytes; /* at most VU_PAYLOAD_BYTES_MAX */
    bool need_reply;
};
/* -EPROTO: wrong version, flags or size; the stream is beyond repair. */
int vu_header_parse(const uint8_t bytes[VU_HEADER_BYTES], enum vu_direction direction,
                    struct vu_header *ret_header, struct err **reterr);

/* Payload and descriptors of @header (its payload_bytes of @payload). On success the descriptors
 * are the message's; on failure they stay the caller's. -EOPNOTSUPP: unknown request (the stream is
 * still in step); -EPROTO: anything else. */
int vu_msg_parse(const struct vu_header *header, enum vu_direction direction,
                 const uint8_t *payload, const int *fds, unsigned fd_count,
                 struct vu_msg *ret_msg, struct err **reterr);

/* Descriptor @i becomes the caller's. */
int vu_msg_take_fd(struct vu_msg *msg, unsigned i);
/* All of them were given away (guest_memory_new() took them). */
void vu_msg_forget_fds(struct vu_msg *msg);
/* Close what nobody took. */
void vu_msg_fini(struct vu_msg *msg);

/*
 * A stream cut into messages: ask where the next bytes go, receive, say how many came.
 *
 *     vu_reader_place(&reader, &to, &bytes);
 *     n = os_receive(fd, to, bytes, fds, &fd_count);
 *     rc = vu_reader_received(&reader, (size_t)n, fds, fd_count, &error);   (1: a message is whole)
 *     rc = vu_msg_parse(&reader.header, VU_TO_BACKEND, vu_reader_payload(&reader), …)
 *
 * vu_reader_take() does the last step. It never asks for bytes of the message after.
 */
struct vu_reader {
    enum vu_direction direction; /* constant */
    size_t have;
    struct vu_header header; /* once have >= VU_HEADER_BYTES */
    unsigned fd_count;
    int fds[VU_FDS_MAX];
    uint8_t bytes[VU_MSG_BYTES_MAX];
};
void vu_reader_init(struct vu_reader *reader, enum vu_direction direction);
void vu_reader_fini(struct vu_reader *reader); /* closes descriptors of a message begun */
void vu_reader_place(struct vu_reader *reader, void **ret_to, size_t *ret_bytes);
/* 1: a message is whole; 0: more is needed; -EPROTO. @fds (@fd_count as os_receive() counts them,
 * those beyond its capacity are closed already) are taken over. */
int vu_reader_received(struct vu_reader *reader, size_t bytes, const int *fds, int fd_count,
                       struct err **reterr);
/* Parse the whole message; the reader begins the next one whatever comes out. Errors as
 * vu_msg_parse(), descriptors are closed then. */
int vu_reader_take(struct vu_reader *reader, struct vu_msg *ret_msg, struct err **reterr);
bool vu_reader_is_midway(const struct vu_reader *reader); /* end of file now cuts a message */

/* ---- to bytes ------------------------------------------------------------------------------ */

/* Bytes written to @to. The descriptors of @msg travel beside, see msg->fds. */
size_t vu_msg_encode(const struct vu_msg *msg, enum vu_direction direction,
                     uint8_t to[VU_MSG_BYTES_MAX]);

CTX_ANY_END
