/*
 * vu_server.c -- listen for front ends of one device, one at a time.
 *
 * (V1) While a front end is connected the listening socket is not looked at: a second one waits in
 *      the backlog and is served as soon as the first has gone.
 * (V2) A session that has ended is over when its rings have been let go; it does not wait for
 *      requests (virtio/device.h, co_queue_abandon), so the next front end is served at once. That
 *      none of them overtakes what the next one sends is the device's care (device/hba_fence.c).
 */
#include <errno.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "export/export.h"
#include "export/vu_int.h"
#include "loop/io.h"
#include "os/file.h"
#include "os/socket.h"

enum { ACCEPT_RETRY_NS = 1000 * 1000 * 1000 };

void vu_server_complain(struct vu_server *server, const char *format, ...)
{
    unsigned held_back = 0;
    AUTO_MEM char *text = NULL;
    va_list args;

    if (!log_limit_allows(server->limit, VU_LOG_LINES_PER_MINUTE,
                          loop_now_ns(LOOP_CLOCK_MONOTONIC), &held_back)) {
        return;
    }
    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    if (held_back > 0) {
        log_warn("export '%s': %s (%u lines like this were held back)", server->name, text,
                 held_back);
    } else {
        log_warn("export '%s': %s", server->name, text);
    }
}

MAIN_LOOP
static void queue_broken(void *transport, unsigned index, const char *text)
{
    struct vu_server **server = transport;

    if (*server != NULL) {
        vu_server_complain(*server, "ring %u is stopped until the front end starts it anew: %s",
                           index, text);
    }
}

const struct virtio_transport_ops vu_transport_ops = {
    .queue_broken = queue_broken,
};

/* (V1) */
MAIN_LOOP
static unsigned listen_events(const struct vu_server *server)
{
    return server->session == NULL && !export_doors_are_held() ? LOOP_IN : 0;
}

MAIN_LOOP
static void listen_rearm(struct vu_server *server)
{
    loop_assert_home(loop_main());
    if (server->listen_fd >= 0) {
        loop_watch_set(&server->listen, listen_events(server));
    }
}

void vu_server_admit(struct vu_server *server)
{
    listen_rearm(server);
}

MAIN_LOOP
static void retry_fired(void *opaque)
{
    listen_rearm(opaque);
}

MAIN_LOOP
static void listen_ready(void *opaque, unsigned events)
{
    struct vu_server *server = opaque;
    struct err *error = NULL;
    int fd;

    (void)events;
    loop_assert_home(loop_main());
    if (server->session != NULL) {
        return;
    }
    fd = os_accept(server->listen_fd);
    if (fd < 0 && fd != -EAGAIN) {
        vu_server_complain(server, "accept: error %d; tried again in a second", -fd);
        loop_watch_set(&server->listen, 0);
        loop_timer_arm(&server->retry, loop_now_ns(LOOP_CLOCK_MONOTONIC) + ACCEPT_RETRY_NS);
    }
    if (fd < 0) {
        return;
    }
    if (vu_session_new(server, fd, &error) < 0) {
        vu_server_complain(server, "%s", error->text);
        err_free(error);
    }
    listen_rearm(server);
}

static const struct loop_watch_ops listen_ops = {.ready = listen_ready};

int vu_server_new(const struct vu_server_config *config, struct vu_server **ret_server,
                  struct err **reterr)
{
    struct vu_server *server = mem_new(struct vu_server);
    int rc;

    loop_assert_home(loop_main());
    rc = loop_watch_add(&server->listen, config->listen_fd, listen_events(server), &listen_ops,
                        server);
    if (rc < 0) {
        mem_free(server);
        return err_set_errno(reterr, -rc, "export '%s': cannot watch its socket", config->name);
    }
    loop_timer_init(&server->retry, LOOP_CLOCK_MONOTONIC, retry_fired, server);
    server->name = mem_strdup(config->name);
    server->unlink_path = mem_strdup(config->unlink_path);
    server->ops = config->ops;
    server->device = config->device;
    server->listen_fd = config->listen_fd;
    server->limit = mem_new(struct log_limit);
    co_queue_init(&server->session_gone);
    *ret_server = server;
    return 0;
}

void vu_server_session_ended(struct vu_server *server)
{
    server->session = NULL;
    listen_rearm(server);
    co_queue_wake_all(&server->session_gone);
}

bool vu_server_is_connected(const struct vu_server *server)
{
    return server->session != NULL;
}

void vu_server_shut(struct vu_server *server)
{
    loop_assert_home(loop_main());
    if (server->listen_fd >= 0) {
        loop_watch_remove(&server->listen);
        loop_timer_cancel(&server->retry);
        os_close_now(server->listen_fd);
        server->listen_fd = -1;
    }
}

BLOCKING
static int64_t unlink_call(void *opaque)
{
    return os_unlink(opaque);
}

void vu_server_co_free(struct vu_server *server)
{
    vu_server_shut(server);
    if (server->unlink_path != NULL) {
        pool_co_call(NULL, unlink_call, server->unlink_path);
    }
    while (server->session != NULL) {
        vu_session_end(server->session);
        co_queue_wait(&server->session_gone, NULL);
    }
    mem_free(server->limit);
    mem_free(server->unlink_path);
    mem_free(server->name);
    mem_free(server);
}
