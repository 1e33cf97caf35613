/*
 * vu_front.c -- the front end's half of the vhost-user protocol.
 *
 * The socket is non-blocking underneath; wait_until_ready() is the one place that sleeps.
 */
#include "virtio/vu_front.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/time.h"
#include "virtio/virtq.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* What we can make use of. */
static const uint64_t protocol_wanted =
    1 << VU_PROTOCOL_F_MQ | 1 << VU_PROTOCOL_F_REPLY_ACK | 1 << VU_PROTOCOL_F_CONFIG;

struct vu_front {
    int fd;
    uint64_t timeout_ns;
    uint64_t offered;  /* device features */
    uint64_t protocol; /* agreed */
    uint64_t queues_max;
    struct vu_reader reader;
};

static bool has_protocol_features(const struct vu_front *front)
{
    return (front->offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1) != 0;
}

bool vu_front_has(const struct vu_front *front, enum vu_protocol_feature feature)
{
    return (front->protocol >> feature & 1) != 0;
}

int vu_front_fd(const struct vu_front *front)
{
    return front->fd;
}

pid_t vu_front_peer_pid(const struct vu_front *front)
{
    return os_socket_peer_pid(front->fd);
}

uint64_t vu_front_offered(const struct vu_front *front)
{
    return front->offered;
}

uint64_t vu_front_queues_max(const struct vu_front *front)
{
    return front->queues_max;
}

/* ---- messages ------------------------------------------------------------------------------ */

BLOCKING
static int wait_until_ready(const struct vu_front *front, unsigned events, uint64_t deadline_ns,
                            const char *name, struct err **reterr)
{
    uint64_t now = os_now_monotonic_ns();
    int rc = now >= deadline_ns ? 0 : os_fd_wait(front->fd, events, deadline_ns - now);

    if (rc == 0) {
        return err_set(reterr, ETIMEDOUT, "%s: the back end did not answer in %" PRIu64 " s", name,
                       front->timeout_ns / 1000000000);
    }
    return rc < 0 && rc != -EINTR ? err_set_errno(reterr, -rc, "%s", name) : 0;
}

BLOCKING
static int send_all(const struct vu_front *front, const uint8_t *bytes, size_t count,
                    const struct vu_msg *msg, uint64_t deadline_ns, struct err **reterr)
{
    const char *name = vu_request_name(msg->request);
    int fd_count = (int)msg->fd_count;
    size_t sent = 0;

    while (sent < count) {
        struct iovec iov = {(void *)(uintptr_t)(bytes + sent), count - sent};
        ssize_t rc = os_send(front->fd, &iov, 1, msg->fds, fd_count);

        if (rc > 0) {
            sent += (size_t)rc;
            fd_count = 0; /* they travelled with the first byte */
        } else if (rc == -EAGAIN) {
            int waited = wait_until_ready(front, OS_FD_OUT, deadline_ns, name, reterr);

            if (waited < 0) {
                return waited;
            }
        } else {
            return err_set(reterr, ENOTCONN, "%s: the back end has closed the connection", name);
        }
    }
    return 0;
}

BLOCKING
static int receive_message(struct vu_front *front, const char *name, uint64_t deadline_ns,
                           struct vu_msg *ret_msg, struct err **reterr)
{
    int rc = 0;

    while (rc == 0) {
        int fds[OS_SOCKET_FDS_MAX], fd_count = 0;
        size_t wanted;
        ssize_t got;
        void *to;

        vu_reader_place(&front->reader, &to, &wanted);
        got = os_receive(front->fd, to, wanted, fds, &fd_count);
        if (got > 0) {
            rc = vu_reader_received(&front->reader, (size_t)got, fds, fd_count, reterr);
        } else if (got == -EAGAIN) {
            rc = wait_until_ready(front, OS_FD_IN, deadline_ns, name, reterr);
        } else {
            rc = err_set(reterr, ENOTCONN, "%s: the back end closed the connection instead of "
                         "answering", name);
        }
    }
    return rc < 0 ? rc : vu_reader_take(&front->reader, ret_msg, reterr);
}

int vu_front_call(struct vu_front *front, const struct vu_msg *request, struct vu_msg *reply,
                  struct err **reterr)
{
    uint64_t deadline_ns = os_now_monotonic_ns() + front->timeout_ns;
    const char *name = vu_request_name(request->request);
    struct vu_msg msg = *request, answer;
    uint8_t bytes[VU_MSG_BYTES_MAX];
    bool has_reply = vu_request_has_reply(request->request);
    size_t count;
    int rc;

    msg.need_reply = !has_reply && vu_front_has(front, VU_PROTOCOL_F_REPLY_ACK);
    count = vu_msg_encode(&msg, VU_TO_BACKEND, bytes);
    rc = send_all(front, bytes, count, &msg, deadline_ns, reterr);
    if (rc < 0 || (!has_reply && !msg.need_reply)) {
        return rc;
    }
    rc = receive_message(front, name, deadline_ns, &answer, reterr);
    if (rc < 0) {
        return rc;
    }
    if (answer.request != request->request) {
        rc = err_set(reterr, EPROTO, "%s was answered with %s", name,
                     vu_request_name(answer.request));
    } else if (answer.is_ack && answer.u64 != 0) {
        rc = err_set(reterr, EREMOTEIO, "the back end refused %s (%" PRId64 ")", name,
                     (int64_t)answer.u64);
    }
    if (rc == 0 && reply != NULL) {
        *reply = answer;
    } else {
        vu_msg_fini(&answer);
    }
    return rc;
}

BLOCKING
static int call_u64(struct vu_front *front, enum vu_request request, uint64_t *ret_value,
                    struct err **reterr)
{
    struct vu_msg msg = {.request = request}, reply;
    int rc = vu_front_call(front, &msg, &reply, reterr);

    if (rc == 0) {
        *ret_value = reply.u64;
        vu_msg_fini(&reply);
    }
    return rc;
}

/* ---- the beginning ------------------------------------------------------------------------- */

BLOCKING
static int agree_protocol(struct vu_front *front, struct err **reterr)
{
    struct vu_msg msg = {.request = VU_SET_PROTOCOL_FEATURES};
    uint64_t offered = 0;
    int rc = call_u64(front, VU_GET_PROTOCOL_FEATURES, &offered, reterr);

    if (rc < 0) {
        return rc;
    }
    msg.u64 = offered & protocol_wanted;
    rc = vu_front_call(front, &msg, NULL, reterr);
    if (rc < 0) {
        return rc;
    }
    front->protocol = msg.u64;
    return vu_front_has(front, VU_PROTOCOL_F_MQ)
               ? call_u64(front, VU_GET_QUEUE_NUM, &front->queues_max, reterr)
               : 0;
}

BLOCKING
static int introduce(struct vu_front *front, struct err **reterr)
{
    struct vu_msg owner = {.request = VU_SET_OWNER};
    int rc = call_u64(front, VU_GET_FEATURES, &front->offered, reterr);

    if (rc == 0 && has_protocol_features(front)) {
        rc = agree_protocol(front, reterr);
    }
    return rc < 0 ? rc : vu_front_call(front, &owner, NULL, reterr);
}

int vu_front_new(const char *path, uint64_t timeout_ns, struct vu_front **ret_front,
                 struct err **reterr)
{
    struct vu_front *front;
    int rc, fd = os_connect_unix(path);

    if (fd < 0) {
        (void)err_set_errno(reterr, -fd, "cannot connect to '%s'", path);
        return -ENOTCONN;
    }
    front = mem_new(struct vu_front);
    front->fd = fd;
    front->timeout_ns = timeout_ns;
    vu_reader_init(&front->reader, VU_TO_FRONTEND);
    rc = os_fd_set_nonblocking(fd);
    rc = rc < 0 ? err_set_errno(reterr, -rc, "'%s'", path) : introduce(front, reterr);
    if (rc < 0) {
        vu_front_free(front);
        return rc;
    }
    *ret_front = front;
    return 0;
}

void vu_front_free(struct vu_front *front)
{
    if (front != NULL) {
        vu_reader_fini(&front->reader);
        (void)os_close_now(front->fd);
        mem_free(front);
    }
}

/* ---- requests ------------------------------------------------------------------------------ */

int vu_front_set_features(struct vu_front *front, uint64_t features, struct err **reterr)
{
    struct vu_msg msg = {.request = VU_SET_FEATURES, .u64 = features};

    if (has_protocol_features(front)) {
        msg.u64 |= UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES;
    }
    return vu_front_call(front, &msg, NULL, reterr);
}

int vu_front_set_memory(struct vu_front *front, const struct guest_region_def *regions,
                        uint32_t count, struct err **reterr)
{
    struct vu_msg msg = {.request = VU_SET_MEM_TABLE, .fd_count = count};

    assert(count <= VU_REGIONS_MAX);
    msg.memory.count = count;
    for (uint32_t i = 0; i < count; i++) {
        msg.memory.regions[i] = regions[i];
        msg.fds[i] = regions[i].fd;
    }
    return vu_front_call(front, &msg, NULL, reterr);
}

int vu_front_get_config(struct vu_front *front, uint32_t offset, uint32_t bytes, void *to,
                        struct err **reterr)
{
    struct vu_msg msg = {.request = VU_GET_CONFIG}, reply;
    int rc;

    assert(bytes <= VU_CONFIG_BYTES_MAX);
    if (!vu_front_has(front, VU_PROTOCOL_F_CONFIG)) {
        return err_set(reterr, EOPNOTSUPP, "the back end does not offer GET_CONFIG");
    }
    msg.config.offset = offset;
    msg.config.bytes = bytes;
    rc = vu_front_call(front, &msg, &reply, reterr);
    if (rc < 0) {
        return rc;
    }
    if (reply.config.bytes != bytes) {
        rc = err_set(reterr, EREMOTEIO, "the back end answered GET_CONFIG of %" PRIu32
                     " bytes with %" PRIu32, bytes, reply.config.bytes);
    } else {
        memcpy(to, reply.config.data, bytes);
    }
    vu_msg_fini(&reply);
    return rc;
}

BLOCKING
static int call_state(struct vu_front *front, enum vu_request request, uint32_t index,
                      uint32_t number, struct err **reterr)
{
    struct vu_msg msg = {.request = request, .state = {index, number}};

    return vu_front_call(front, &msg, NULL, reterr);
}

BLOCKING
static int call_ring_fd(struct vu_front *front, enum vu_request request, uint32_t index, int fd,
                        struct err **reterr)
{
    struct vu_msg msg = {.request = request, .ring_fd = {index, fd >= 0}};

    if (fd >= 0) {
        msg.fd_count = 1;
        msg.fds[0] = fd;
    }
    return vu_front_call(front, &msg, NULL, reterr);
}

int vu_front_ring_start(struct vu_front *front, uint32_t index, const struct vu_front_ring *ring,
                        struct err **reterr)
{
    struct vu_msg addr = {
        .request = VU_SET_VRING_ADDR,
        .addr = {.index = index,
                 .desc_user = ring->desc_user,
                 .used_user = ring->used_user,
                 .avail_user = ring->avail_user},
    };
    int rc = call_state(front, VU_SET_VRING_NUM, index, ring->size, reterr);

    if (rc == 0) {
        rc = call_state(front, VU_SET_VRING_BASE, index, ring->base, reterr);
    }
    if (rc == 0) {
        rc = vu_front_call(front, &addr, NULL, reterr);
    }
    if (rc == 0) {
        rc = call_ring_fd(front, VU_SET_VRING_CALL, index, ring->call_fd, reterr);
    }
    if (rc == 0) {
        rc = call_ring_fd(front, VU_SET_VRING_KICK, index, ring->kick_fd, reterr);
    }
    if (rc == 0 && has_protocol_features(front)) {
        rc = call_state(front, VU_SET_VRING_ENABLE, index, 1, reterr);
    }
    if (rc < 0) {
        err_prepend(reterr, "queue %" PRIu32 ": ", index);
    }
    return rc;
}

int vu_front_ring_stop(struct vu_front *front, uint32_t index, uint32_t *ret_base,
                       struct err **reterr)
{
    struct vu_msg msg = {.request = VU_GET_VRING_BASE, .state = {index, 0}}, reply;
    int rc = vu_front_call(front, &msg, &reply, reterr);

    if (rc == 0) {
        *ret_base = reply.state.num;
        vu_msg_fini(&reply);
    }
    return rc;
}
