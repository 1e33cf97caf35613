/*
 * vu_int.h -- the back end of vhost-user: a server that listens for one device, and the session of
 * the front end that is connected. Which device it is does not matter here (virtio/device.h).
 */
#pragma once
#include "base/log.h"
#include "co/lock.h"
#include "loop/loop.h"
#include "virtio/device.h"
#include "virtio/vu_msg.h"

/* ---- vu_server.c ---- */

struct vu_server;

struct vu_server_config {
    const char *name; /* of the export, for messages; copied */
    int listen_fd;    /* taken over on success */
    const char *unlink_path; /* NULL: none; copied */
    const struct virtio_device_ops *ops;
    void *device;
};
MAIN_LOOP
int vu_server_new(const struct vu_server_config *config, struct vu_server **ret_server,
                  struct err **reterr);
/* No further connection is taken; the socket is closed. Idempotent. */
MAIN_LOOP
void vu_server_admit(struct vu_server *server); /* doors are no longer held */
MAIN_LOOP
void vu_server_shut(struct vu_server *server);
/* Shut, disconnect, wait until the device's rings are let go, free. */
MAIN_LOOP CO_FN
void vu_server_co_free(struct vu_server *server);
MAIN_LOOP
bool vu_server_is_connected(const struct vu_server *server);
/* virtio_transport_ops of a device whose transport pointer is a `struct vu_server **`. */
extern const struct virtio_transport_ops vu_transport_ops;

struct vu_session;

struct vu_server {
    char *name, *unlink_path;
    const struct virtio_device_ops *ops;
    void *device;
    int listen_fd; /* -1: shut */
    struct loop_watch listen;
    struct loop_timer retry;     /* after accept() failed for want of descriptors */
    struct vu_session *session;  /* NULL: nobody is connected */
    struct co_queue session_gone;
    struct log_limit *limit;     /* nonsense and broken rings: 10 lines a minute */
};
enum { VU_LOG_LINES_PER_MINUTE = 10 };

/* A line about what the front end does wrong, if the limit allows one. */
printf_like(2, 3) MAIN_LOOP
void vu_server_complain(struct vu_server *server, const char *format, ...);
/* The session has ended and is freed: take the next one. */
MAIN_LOOP
void vu_server_session_ended(struct vu_server *server);

/* ---- vu_session.c ---- */

/* Serve the front end on @fd (taken over) until it goes or vu_session_end(). */
MAIN_LOOP
int vu_session_new(struct vu_server *server, int fd, struct err **reterr);
/* Hang up. The session frees itself when what it does has ended, and tells the server. */
MAIN_LOOP
void vu_session_end(struct vu_session *session);

enum vu_ring_flags { VU_RING_HAS_ADDR = 1, VU_RING_HAS_NUM = 2, VU_RING_HAS_KICK = 4 };

struct vu_ring {
    unsigned has; /* enum vu_ring_flags */
    uint16_t size, base;
    uint64_t desc_user, avail_user, used_user;
    int kick_fd, call_fd, err_fd;
    bool enabled, started;
};

struct vu_session {
    struct vu_server *server;
    int fd;
    struct loop_watch watch;
    struct vu_reader reader;
    struct list inbox;           /* struct vu_letter, in order */
    unsigned inbox_count;
    struct co_queue inbox_filled;
    bool gone;                   /* the connection; what is under way ends */
    bool owner_set;
    uint64_t features, protocol_features;
    struct guest_memory *memory; /* NULL: none yet */
    struct vu_ring rings[VIRTIO_QUEUES_MAX];
    unsigned ring_count;
    int stopping;                /* ring whose requests are waited for; -1: none */
};

/* ---- vu_handlers.c ---- */

enum vu_outcome {
    VU_DONE,    /* acknowledge it, if an acknowledgement is asked for */
    VU_REPLIED, /* it has its own reply, which is in *reply */
};
/* Carry out @msg. Negative errno: refused with a text; nothing has changed. */
MAIN_LOOP CO_FN
int vu_handle(struct vu_session *session, struct vu_msg *msg, struct vu_msg *reply,
              struct err **reterr);
/* The front end is gone: abandon rings, let go of descriptors and memory, reset the device. */
MAIN_LOOP CO_FN
void vu_session_co_let_go(struct vu_session *session);
