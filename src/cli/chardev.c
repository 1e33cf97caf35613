/*
 * chardev.c -- --chardev socket and --monitor: where control connections come from.
 *
 * A chardev listens from the moment it is made; its clients wait in the backlog until
 * chardevs_accept(), that is until every option has succeeded. One monitor a chardev.
 */
#include "base/log.h"
#include "base/mem.h"
#include "cli/daemon_int.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "os/file.h"
#include "os/socket.h"
#include <errno.h>
#include <string.h>

enum { BACKLOG = 64 };

struct chardev {
    struct list link;
    char *id;
    char *path;        /* absolute; NULL: a descriptor that was passed */
    bool owns_path;    /* we made the socket file */
    int listen_fd;     /* -1: server=off */
    int client_fd;     /* -1; the connection of server=off, or the first one of wait=on */
    bool has_monitor;
    bool pretty;
    struct qmp_server *server; /* NULL before chardevs_accept() */
    struct loop_watch watch;   /* with wait=on, while nobody has come */
    struct co_wait *wait;
};

struct socket_options {
    char *backend, *id, *path, *fd;
    bool abstract, tight, server, wait, has_wait;
};
#define REFUSED(name_, why) {.name = name_, .type = OPT_STR, .flags = OPT_REFUSED, .help = why}
#define ONLY_UNIX "only UNIX sockets are served, with path= or fd="
static const struct opt socket_opts[] = {
    {.name = "backend", .type = OPT_STR, OPT_AT(struct socket_options, backend), .since = "0.1",
     .help = "socket"},
    {.name = "id", .type = OPT_STR, .flags = OPT_REQUIRED, OPT_AT(struct socket_options, id),
     .since = "0.1", .help = "its name, for --monitor"},
    {.name = "path", .type = OPT_STR, OPT_AT(struct socket_options, path), .since = "0.1",
     .help = "the socket's file"},
    {.name = "fd", .type = OPT_STR, OPT_AT(struct socket_options, fd), .since = "0.1",
     .help = "number of a socket that was passed to this program"},
    {.name = "server", .type = OPT_BOOL, OPT_AT(struct socket_options, server), .dflt = "off",
     .since = "0.1", .help = "on: listen; off: connect"},
    {.name = "wait", .type = OPT_BOOL, OPT_AT(struct socket_options, wait),
     OPT_HAS(struct socket_options, has_wait), .dflt = "on", .since = "0.1",
     .help = "with server=on: go on with the command line only when a client has connected"},
    REFUSED("abstract", "the abstract name space is open to everybody; use a path"),
    REFUSED("tight", "it belongs to abstract=on"),
    REFUSED("host", ONLY_UNIX),
    REFUSED("port", ONLY_UNIX),
    REFUSED("to", ONLY_UNIX),
    REFUSED("ipv4", ONLY_UNIX),
    REFUSED("ipv6", ONLY_UNIX),
    REFUSED("nodelay", ONLY_UNIX),
    REFUSED("delay", ONLY_UNIX),
    REFUSED("tls-creds", ONLY_UNIX),
    REFUSED("tls-authz", ONLY_UNIX),
    REFUSED("telnet", "the control socket speaks QMP only"),
    REFUSED("websocket", "the control socket speaks QMP only"),
    REFUSED("reconnect", "a lost client connects again by itself, with server=on"),
    REFUSED("mux", "a server serves several clients as it is"),
    REFUSED("logfile", "use -T 'qmp_*'"),
    REFUSED("logappend", "use -T 'qmp_*'"),
};
const struct opt_table chardev_socket_table = {
    .name = "socket", .help = "a UNIX socket", .opts = socket_opts, .count = countof(socket_opts),
    .values_bytes = sizeof(struct socket_options)};

static const char *const monitor_modes[] = {"control", NULL};
struct monitor_options {
    char *chardev, *id;
    int mode;
    bool pretty;
};
static const struct opt monitor_opts[] = {
    {.name = "chardev", .type = OPT_STR, .flags = OPT_REQUIRED,
     OPT_AT(struct monitor_options, chardev), .since = "0.1", .help = "id of a --chardev"},
    {.name = "id", .type = OPT_STR, OPT_AT(struct monitor_options, id), .since = "0.1",
     .help = "its name, for people"},
    {.name = "mode", .type = OPT_ENUM, OPT_AT(struct monitor_options, mode),
     .names = monitor_modes, .dflt = "control", .since = "0.1", .help = "QMP"},
    {.name = "pretty", .type = OPT_BOOL, OPT_AT(struct monitor_options, pretty), .dflt = "off",
     .since = "0.1", .help = "answers on several lines, indented"},
};
const struct opt_table monitor_table = {
    .name = "monitor", .help = "a control connection", .opts = monitor_opts,
    .count = countof(monitor_opts), .values_bytes = sizeof(struct monitor_options)};

void chardevs_init(struct chardevs *chardevs)
{
    list_init(&chardevs->all);
}

static struct chardev *find(struct chardevs *chardevs, const char *id)
{
    struct chardev *chardev;

    list_for_each(chardev, &chardevs->all, link)
    {
        if (strcmp(chardev->id, id) == 0) {
            return chardev;
        }
    }
    return NULL;
}

/* ---- making one ---- */

static int check_options(struct chardevs *chardevs, const struct socket_options *options,
                         struct err **reterr)
{
    if (!str_is_wellformed_id(options->id)) {
        return err_set(reterr, EINVAL,
                       "Parameter 'id' expects an identifier (a letter, then letters, digits, '-', "
                       "'.', '_'), not '%s'", options->id);
    }
    if (find(chardevs, options->id) != NULL) {
        return err_set(reterr, EEXIST, "Duplicate ID '%s' for chardev", options->id);
    }
    if ((options->path == NULL) == (options->fd == NULL)) {
        return err_set(reterr, EINVAL, "chardev '%s': one of 'path' and 'fd' is needed",
                       options->id);
    }
    if (options->has_wait && !options->server) {
        return err_set(reterr, EINVAL, "chardev '%s': 'wait' goes with server=on only",
                       options->id);
    }
    return 0;
}

static int use_passed_fd(const char *text, struct err **reterr)
{
    uint64_t number = 0;
    int rc;

    if (str_parse_u64(text, INT32_MAX, &number) < 0) {
        return err_set(reterr, EINVAL, "Parameter 'fd' expects the number of a socket, not '%s'",
                       text);
    }
    if (!os_fd_is_socket((int)number)) {
        return err_set(reterr, EBADF, "Parameter 'fd': %s is not a socket of this program", text);
    }
    rc = os_fd_set_nonblocking((int)number);
    return rc < 0 ? err_set_errno(reterr, -rc, "Parameter 'fd': %s", text) : (int)number;
}

static int open_socket(const struct socket_options *options, struct err **reterr)
{
    int fd;

    if (options->fd != NULL) {
        return use_passed_fd(options->fd, reterr);
    }
    if (options->server) {
        fd = os_listen_unix(options->path, BACKLOG);
        return fd >= 0 ? fd
                       : err_set_errno(reterr, -fd, "Failed to bind socket to %s", options->path);
    }
    fd = os_connect_unix(options->path);
    return fd >= 0 ? fd : err_set_errno(reterr, -fd, "Failed to connect to '%s'", options->path);
}

HOME_LOOP
static void somebody_knocks(void *opaque, unsigned events)
{
    struct chardev *chardev = opaque;

    loop_watch_set(&chardev->watch, 0);
    if (chardev->wait != NULL) {
        (void)co_wait_complete(take(&chardev->wait), 0);
    }
}

static const struct loop_watch_ops watch_ops = {.ready = somebody_knocks};

/* Until the socket is ready, or chardevs_abort(). The socket may be shared with whoever passed it,
 * so it is not shut down to end the wait. */
MAIN_LOOP CO_FN
static int wait_for_knock(struct chardev *chardev)
{
    struct co_wait wait;
    int rc;

    loop_assert_home(loop_main());
    co_wait_init(&wait);
    chardev->wait = &wait;
    rc = loop_watch_add(&chardev->watch, chardev->listen_fd, LOOP_IN, &watch_ops, chardev);
    if (rc == 0) {
        rc = (int)co_wait_block(&wait);
        loop_watch_remove(&chardev->watch);
    }
    chardev->wait = NULL;
    return rc;
}

MAIN_LOOP CO_FN
static int wait_for_client(struct chardev *chardev, struct err **reterr)
{
    int fd;

    log_info("chardev '%s': waiting for a client (wait=on)", chardev->id);
    do {
        int rc = wait_for_knock(chardev);

        fd = rc < 0 ? rc : os_accept(chardev->listen_fd);
    } while (fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR);
    if (fd < 0) {
        return err_set_errno(reterr, -fd, "chardev '%s': no client", chardev->id);
    }
    chardev->client_fd = fd;
    return 0;
}

BLOCKING
static int64_t make_absolute(void *opaque)
{
    struct chardev *chardev = opaque;
    char *relative = chardev->path;

    chardev->path = os_path_absolute(relative);
    mem_free(relative);
    return 0;
}

MAIN_LOOP CO_FN
static int add_socket(struct chardevs *chardevs, const struct socket_options *options,
                      struct err **reterr)
{
    struct chardev *chardev;
    int fd = open_socket(options, reterr);

    if (fd < 0) {
        return fd;
    }
    chardev = mem_new(struct chardev);
    chardev->id = mem_strdup(options->id);
    chardev->listen_fd = options->server ? fd : -1;
    chardev->client_fd = options->server ? -1 : fd;
    chardev->path = mem_strdup(options->path);
    chardev->owns_path = options->server && options->path != NULL;
    list_add_tail(&chardevs->all, &chardev->link);
    if (chardev->path != NULL) {
        (void)pool_co_call(NULL, make_absolute, chardev);
    }
    return options->server && options->wait ? wait_for_client(chardev, reterr) : 0;
}

static int check_backend(json_t *object, struct err **reterr)
{
    const char *backend = json_string_value(json_object_get(object, "backend"));

    if (backend == NULL) {
        return err_set(reterr, EINVAL, "Parameter 'backend' is missing; only 'socket' there is");
    }
    if (strcmp(backend, "socket") != 0) {
        return err_set(reterr, EINVAL, "'%s' is not a valid char driver name, only 'socket' is",
                       backend);
    }
    return 0;
}

int chardevs_co_add(struct chardevs *chardevs, json_t *object, unsigned flags, struct err **reterr)
{
    struct socket_options options;
    int rc = check_backend(object, reterr);

    if (rc == 0) {
        rc = opt_parse(&chardev_socket_table, object, flags, &options, reterr);
    }
    if (rc < 0) {
        return rc;
    }
    rc = check_options(chardevs, &options, reterr);
    if (rc == 0) {
        rc = add_socket(chardevs, &options, reterr);
    }
    opt_free_values(&chardev_socket_table, &options);
    return rc;
}

int chardevs_add_monitor(struct chardevs *chardevs, json_t *object, unsigned flags,
                         struct err **reterr)
{
    struct monitor_options options;
    struct chardev *chardev;
    int rc = opt_parse(&monitor_table, object, flags, &options, reterr);

    if (rc < 0) {
        return rc;
    }
    chardev = find(chardevs, options.chardev);
    if (chardev == NULL) {
        rc = err_set(reterr, ENOENT, "chardev \"%s\" not found", options.chardev);
    } else if (chardev->has_monitor) {
        rc = err_set(reterr, EBUSY, "chardev \"%s\" has a monitor already", options.chardev);
    } else {
        chardev->has_monitor = true;
        chardev->pretty = options.pretty;
    }
    opt_free_values(&monitor_table, &options);
    return rc;
}

/* ---- serving and the end ---- */

void chardevs_accept(struct chardevs *chardevs)
{
    struct chardev *chardev;

    list_for_each(chardev, &chardevs->all, link)
    {
        if (!chardev->has_monitor) {
            continue;
        }
        if (chardev->client_fd >= 0) {
            qmp_client_new(chardev->client_fd, chardev->pretty);
            chardev->client_fd = -1;
        }
        if (chardev->listen_fd >= 0) {
            chardev->server = qmp_server_new(chardev->listen_fd, chardev->pretty);
            chardev->listen_fd = -1;
        }
    }
}

void chardevs_abort(struct chardevs *chardevs)
{
    struct chardev *chardev;

    list_for_each(chardev, &chardevs->all, link)
    {
        if (chardev->wait != NULL) {
            (void)co_wait_complete(take(&chardev->wait), -ECANCELED);
        }
    }
}

void chardevs_stop(struct chardevs *chardevs)
{
    struct chardev *chardev;

    list_for_each(chardev, &chardevs->all, link)
    {
        qmp_server_free(chardev->server);
        chardev->server = NULL;
    }
}

void chardevs_fini(struct chardevs *chardevs)
{
    struct list *link;

    while ((link = list_pop_head(&chardevs->all)) != NULL) {
        struct chardev *chardev = list_entry(link, struct chardev, link);

        if (chardev->listen_fd >= 0) {
            os_close_now(chardev->listen_fd);
        }
        if (chardev->client_fd >= 0) {
            os_close_now(chardev->client_fd);
        }
        if (chardev->owns_path) {
            (void)os_unlink(chardev->path);
        }
        mem_free(chardev->path);
        mem_free(chardev->id);
        mem_free(chardev);
    }
}
