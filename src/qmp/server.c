/*
 * server.c -- a listening control socket: accept, count, refuse.
 */
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/socket.h"
#include "qmp/qmp_int.h"
#include <errno.h>
#include <string.h>

static const uint64_t pause_ns = 200000000; /* out of descriptors: look again then */

struct qmp_server {
    int fd;
    bool pretty;
    struct loop_watch watch;
    struct loop_timer pause;
};

HOME_LOOP
static void accept_clients(void *opaque, unsigned events)
{
    struct qmp_server *server = opaque;

    loop_assert_main();
    for (int i = 0; i < LOOP_BUDGET; i++) {
        int fd = os_accept(server->fd);

        if (fd >= 0) {
            qmp_client_new(fd, server->pretty);
        } else if (fd == -EAGAIN) {
            return;
        } else if (fd != -ECONNABORTED && fd != -EINTR) {
            log_warn("control socket: accept: %s", strerror(-fd));
            loop_watch_set(&server->watch, 0);
            loop_timer_arm(&server->pause, loop_now_ns(LOOP_CLOCK_MONOTONIC) + pause_ns);
            return;
        }
    }
}

HOME_LOOP
static void listen_again(void *opaque)
{
    struct qmp_server *server = opaque;

    loop_watch_set(&server->watch, LOOP_IN);
}

static const struct loop_watch_ops watch_ops = {.ready = accept_clients};

struct qmp_server *qmp_server_new(int listen_fd, bool pretty)
{
    struct qmp_server *server = mem_new(struct qmp_server);
    int rc;

    loop_assert_home(loop_main());
    server->fd = listen_fd;
    server->pretty = pretty;
    loop_timer_init(&server->pause, LOOP_CLOCK_MONOTONIC, listen_again, server);
    rc = loop_watch_add(&server->watch, listen_fd, LOOP_IN, &watch_ops, server);
    if (rc < 0) {
        panic("control socket: watch: %s", strerror(-rc)); /* start-up, with a fresh descriptor */
    }
    return server;
}

void qmp_server_free(struct qmp_server *server)
{
    if (server != NULL) {
        loop_assert_home(loop_main());
        loop_watch_remove(&server->watch);
        loop_timer_cancel(&server->pause);
        os_close_now(server->fd);
        mem_free(server);
    }
}
