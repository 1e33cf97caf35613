/*
 * vu_front.h -- a vhost-user front end for programs without a loop: load generators and tests.
 *
 * Requests are sent and answered one at a time; each call waits for its answer at most the
 * time-out. Errors name the message and what the back end did. One thread at a time.
 */
#pragma once
#include "base/ctx.h"
#include "base/err.h"
#include "virtio/vu_msg.h"
#include <sys/types.h>

struct vu_front;

/* Connect, find out what the back end offers, become its owner. -ENOTCONN: nobody answers at
 * @path. */
BLOCKING
int vu_front_new(const char *path, uint64_t timeout_ns, struct vu_front **ret_front,
                 struct err **reterr);
ANY_THREAD
void vu_front_free(struct vu_front *front); /* closes the connection; NULL is fine */
ANY_THREAD
int vu_front_fd(const struct vu_front *front); /* readable in between: the back end has left */
ANY_THREAD
pid_t vu_front_peer_pid(const struct vu_front *front); /* 0: cannot tell */

ANY_THREAD
uint64_t vu_front_offered(const struct vu_front *front); /* device features */
ANY_THREAD
bool vu_front_has(const struct vu_front *front, enum vu_protocol_feature feature);
ANY_THREAD
uint64_t vu_front_queues_max(const struct vu_front *front); /* 0: the back end does not say */

/* One request; @reply (may be NULL) gets the answer if the request has one of its own. Where it has
 * none and REPLY_ACK was agreed, the acknowledgement is waited for. -EREMOTEIO: the back end
 * refused. */
BLOCKING
int vu_front_call(struct vu_front *front, const struct vu_msg *request, struct vu_msg *reply,
                  struct err **reterr);
BLOCKING
int vu_front_set_features(struct vu_front *front, uint64_t features, struct err **reterr);
/* Descriptors stay the caller's. */
BLOCKING
int vu_front_set_memory(struct vu_front *front, const struct guest_region_def *regions,
                        uint32_t count, struct err **reterr);
BLOCKING
int vu_front_get_config(struct vu_front *front, uint32_t offset, uint32_t bytes, void *to,
                        struct err **reterr);

struct vu_front_ring {
    uint16_t size;
    uint16_t base;
    uint64_t desc_user, avail_user, used_user;
    int kick_fd, call_fd; /* stay the caller's; -1: polled */
};
/* Size, addresses, base, descriptors, and enabled. */
BLOCKING
int vu_front_ring_start(struct vu_front *front, uint32_t index, const struct vu_front_ring *ring,
                        struct err **reterr);
BLOCKING
int vu_front_ring_stop(struct vu_front *front, uint32_t index, uint32_t *ret_base,
                       struct err **reterr);
