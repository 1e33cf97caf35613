/*
 * vhost_user.c -- the export type vhost-user-scsi: an HBA behind a vhost-user socket.
 *
 * Request queue i runs on I/O thread i modulo their number; control and event queue on the first;
 * without any all run in the main loop. iothread-vq-mapping says instead for each request queue
 * where it runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "device/device.h"
#include "device/hba.h"
#include "export/export_int.h"
#include "export/vu_int.h"
#include "loop/iothread.h"
#include "os/file.h"
#include "os/socket.h"

enum { REQUEST_QUEUES_MAX = VIRTIO_QUEUES_MAX - 2, FIXED_QUEUES = 2, BACKLOG = 16 };

enum address_type { ADDRESS_UNIX, ADDRESS_FD };
static const char *const address_type_names[] = {"unix", "fd", NULL};

struct address_options {
    int type;
    char *path, *str;
};
static const struct opt address_opts[] = {
    {.name = "type", .type = OPT_ENUM, OPT_AT(struct address_options, type),
     .names = address_type_names, .flags = OPT_REQUIRED, .since = "0.1",
     .help = "a UNIX domain socket by path, or an inherited descriptor"},
    {.name = "path", .type = OPT_STR, OPT_AT(struct address_options, path), .since = "0.1",
     .help = "with type=unix: the file to make and listen on"},
    {.name = "str", .type = OPT_STR, OPT_AT(struct address_options, str), .since = "0.1",
     .help = "with type=fd: number of a listening socket"},
};
static const struct opt_table address_table = {
    .name = "SocketAddress",
    .opts = address_opts,
    .count = countof(address_opts),
    .values_bytes = sizeof(struct address_options),
};

struct mapping_options {
    char *iothread;
    json_t *vqs; /* numbers, or their texts */
};
static const struct opt mapping_opts[] = {
    {.name = "iothread", .type = OPT_STR, OPT_AT(struct mapping_options, iothread),
     .flags = OPT_REQUIRED, .since = "0.1", .help = "id of an I/O thread"},
    {.name = "vqs", .type = OPT_JSON, OPT_AT(struct mapping_options, vqs), .since = "0.1",
     .help = "numbers of the request queues it runs; all entries have this or none"},
};
static const struct opt_table mapping_table = {
    .name = "IOThreadVirtQueueMapping",
    .opts = mapping_opts,
    .count = countof(mapping_opts),
    .values_bytes = sizeof(struct mapping_options),
};

struct vhost_user_options {
    struct export_options common;
    struct address_options addr;
    uint16_t num_queues;
    struct opt_list mapping;
};
#define NO_NODE "an HBA has no node of its own: its disks are plugged in with device_add"
static const struct opt vhost_user_opts[] = {
    {.name = "addr", .type = OPT_STRUCT, OPT_AT(struct vhost_user_options, addr),
     .table = &address_table, .flags = OPT_REQUIRED, .since = "0.1",
     .help = "where front ends connect"},
    {.name = "num-queues", .type = OPT_U16, OPT_AT(struct vhost_user_options, num_queues),
     .dflt = "1", .min = 1, .max = REQUEST_QUEUES_MAX, .since = "0.1", .help = "request queues"},
    {.name = "iothread-vq-mapping", .type = OPT_LIST, OPT_AT(struct vhost_user_options, mapping),
     .table = &mapping_table, .since = "0.1", .help = "which queue runs in which I/O thread"},
    {.name = "node-name", .type = OPT_STR, .flags = OPT_REFUSED, .since = "0.1", .help = NO_NODE},
    {.name = "writable", .type = OPT_BOOL, .flags = OPT_REFUSED, .since = "0.1", .help = NO_NODE},
    {.name = "writethrough", .type = OPT_BOOL, .flags = OPT_REFUSED, .since = "0.1",
     .help = NO_NODE},
};
static const struct opt_table vhost_user_table = {
    .name = "vhost-user-scsi",
    .help = "a SCSI host adapter over vhost-user; disks are plugged into bus ID.0",
    .base = &export_options_table,
    .opts = vhost_user_opts,
    .count = countof(vhost_user_opts),
    .values_bytes = sizeof(struct vhost_user_options),
};

struct vhost_user {
    struct export export; /* first */
    struct hba *hba;
    struct vu_server *server;
    char *user;                 /* "export 'hba0'", for the I/O threads */
    struct iothread **threads;  /* each once */
    size_t thread_count;
};

ANY_THREAD
static struct vhost_user *to_vhost_user(struct export *export)
{
    return container_of(export, struct vhost_user, export);
}

/* ---- which queue runs where --------------------------------------------------------------- */

/* homes[i] is of queue i; control and event queue are filled in last. */
struct placing {
    struct vhost_user *vu;
    unsigned request_queues;
    struct loop *homes[VIRTIO_QUEUES_MAX];
};

MAIN_LOOP
static struct iothread *use_thread(struct vhost_user *vu, const char *id, struct err **reterr)
{
    struct iothread *thread = iothread_find(id);

    if (thread == NULL) {
        err_set(reterr, ENOENT, "iothread \"%s\" not found", id);
        return NULL;
    }
    for (size_t i = 0; i < vu->thread_count; i++) {
        if (vu->threads[i] == thread) {
            return thread;
        }
    }
    vu->threads = mem_realloc(vu->threads, (vu->thread_count + 1) * sizeof(*vu->threads));
    vu->threads[vu->thread_count++] = thread;
    iothread_use(thread, vu->user);
    return thread;
}

MAIN_LOOP
static void unuse_threads(struct vhost_user *vu)
{
    for (size_t i = 0; i < vu->thread_count; i++) {
        iothread_unuse(vu->threads[i], vu->user);
    }
    mem_free(take(&vu->threads));
    vu->thread_count = 0;
}

MAIN_LOOP
static int place_by_names(struct placing *placing, const struct opt_strs *names,
                          struct err **reterr)
{
    for (unsigned i = 0; i < max_of(placing->request_queues, names->count); i++) {
        struct iothread *thread = use_thread(placing->vu, names->items[i % names->count], reterr);

        if (thread == NULL) {
            return -ENOENT;
        }
        if (i < placing->request_queues) {
            placing->homes[FIXED_QUEUES + i] = iothread_loop(thread);
        }
    }
    placing->homes[0] = placing->homes[1] = placing->homes[FIXED_QUEUES];
    return 0;
}

MAIN_LOOP
static int place_queue(struct placing *placing, const json_t *number, struct iothread *thread,
                       struct err **reterr)
{
    uint64_t index = 0;
    struct loop **home;

    if (json_is_integer(number) && json_integer_value(number) >= 0) {
        index = (uint64_t)json_integer_value(number);
    } else if (!json_is_string(number) ||
               str_parse_u64(json_string_value(number), UINT64_MAX, &index) < 0) {
        return err_set(reterr, EINVAL, "iothread-vq-mapping: 'vqs' must be a list of numbers");
    }
    if (index >= placing->request_queues) {
        return err_set(reterr, EINVAL, "iothread-vq-mapping: there is no request queue %" PRIu64
                       "; num-queues=%u gives 0 to %u", index, placing->request_queues,
                       placing->request_queues - 1);
    }
    home = &placing->homes[FIXED_QUEUES + index];
    if (*home != NULL) {
        return err_set(reterr, EINVAL, "iothread-vq-mapping: request queue %" PRIu64
                       " is mapped twice", index);
    }
    *home = iothread_loop(thread);
    return 0;
}

MAIN_LOOP
static int place_entry(struct placing *placing, const struct mapping_options *entry,
                       struct err **reterr)
{
    struct iothread *thread = use_thread(placing->vu, entry->iothread, reterr);
    json_t *number;
    size_t i;

    if (thread == NULL) {
        return -ENOENT;
    }
    if (!json_is_array(entry->vqs)) {
        return err_set(reterr, EINVAL, "iothread-vq-mapping: 'vqs' must be a list of numbers");
    }
    json_array_foreach(entry->vqs, i, number) {
        int rc = place_queue(placing, number, thread, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Every entry has its vqs. */
MAIN_LOOP
static int place_by_lists(struct placing *placing, const struct opt_list *list, struct err **reterr)
{
    const struct mapping_options *entries = list->items;

    for (size_t i = 0; i < list->count; i++) {
        int rc = place_entry(placing, &entries[i], reterr);

        if (rc < 0) {
            return rc;
        }
    }
    for (unsigned i = 0; i < placing->request_queues; i++) {
        if (placing->homes[FIXED_QUEUES + i] == NULL) {
            return err_set(reterr, EINVAL, "iothread-vq-mapping: request queue %u is mapped to no "
                           "I/O thread", i);
        }
    }
    placing->homes[0] = placing->homes[1] =
        iothread_loop(use_thread(placing->vu, entries[0].iothread, NULL));
    return 0;
}

MAIN_LOOP
static int place_by_mapping(struct placing *placing, const struct opt_list *list,
                            struct err **reterr)
{
    const struct mapping_options *entries = list->items;
    AUTO_MEM char **names = mem_alloc_array(list->count, sizeof(*names));
    struct opt_strs strs = {names, list->count};
    size_t with_vqs = 0;

    for (size_t i = 0; i < list->count; i++) {
        names[i] = entries[i].iothread;
        with_vqs += entries[i].vqs != NULL;
        for (size_t k = 0; k < i; k++) {
            if (str_equal(names[k], names[i])) {
                return err_set(reterr, EINVAL, "iothread-vq-mapping: iothread '%s' is named twice",
                               names[i]);
            }
        }
    }
    if (with_vqs == 0) {
        return place_by_names(placing, &strs, reterr); /* round robin */
    }
    if (with_vqs < list->count) {
        return err_set(reterr, EINVAL, "iothread-vq-mapping: 'vqs' must be given for all I/O "
                       "threads or for none");
    }
    return place_by_lists(placing, list, reterr);
}

MAIN_LOOP
static int place_queues(struct placing *placing, const struct vhost_user_options *options,
                        struct err **reterr)
{
    if (options->mapping.count > 0 && options->common.iothread.count > 0) {
        return err_set(reterr, EINVAL, "'iothread' and 'iothread-vq-mapping' exclude each other");
    }
    if (options->mapping.count > 0) {
        return place_by_mapping(placing, &options->mapping, reterr);
    }
    if (options->common.iothread.count > 0) {
        return place_by_names(placing, &options->common.iothread, reterr);
    }
    for (unsigned i = 0; i < placing->request_queues + FIXED_QUEUES; i++) {
        placing->homes[i] = loop_main();
    }
    return 0;
}

/* ---- the socket --------------------------------------------------------------------------- */

MAIN_LOOP
static int listen_on_fd(const char *text, struct err **reterr)
{
    uint64_t fd = 0;

    if (text == NULL || str_parse_u64(text, INT32_MAX, &fd) < 0) {
        return err_set(reterr, EINVAL, "'addr.str' must be the number of an open descriptor, not "
                       "'%s'", text != NULL ? text : "");
    }
    if (!os_fd_is_socket((int)fd)) {
        return err_set(reterr, EBADF, "'addr.str': descriptor %d is not a socket", (int)fd);
    }
    os_fd_set_nonblocking((int)fd);
    return (int)fd;
}

MAIN_LOOP
static int listen_on(const struct address_options *address, struct err **reterr)
{
    int fd;

    if (address->type == ADDRESS_FD) {
        if (address->path != NULL) {
            return err_set(reterr, EINVAL, "'addr.path' does not go with 'addr.type=fd'");
        }
        return listen_on_fd(address->str, reterr);
    }
    if (address->str != NULL) {
        return err_set(reterr, EINVAL, "'addr.str' does not go with 'addr.type=unix'");
    }
    if (address->path == NULL) {
        return err_set(reterr, EINVAL, "Parameter 'addr.path' is missing");
    }
    fd = os_listen_unix(address->path, BACKLOG);
    return fd >= 0 ? fd : err_set_errno(reterr, -fd, "'addr.path': cannot listen on '%s'",
                                        address->path);
}

/* ---- life --------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static int vhost_user_open_server(struct vhost_user *vu, const struct address_options *address,
                                  struct err **reterr)
{
    struct vu_server_config config = {
        .name = vu->export.id,
        .listen_fd = listen_on(address, reterr),
        .unlink_path = address->type == ADDRESS_UNIX ? address->path : NULL,
        .ops = &hba_virtio_ops,
        .device = vu->hba,
    };
    int rc;

    if (config.listen_fd < 0) {
        return config.listen_fd;
    }
    rc = vu_server_new(&config, &vu->server, reterr);
    if (rc < 0) {
        os_close_now(config.listen_fd);
    }
    return rc;
}

MAIN_LOOP CO_FN
static int vhost_user_open(struct export *export, const void *values, struct err **reterr)
{
    const struct vhost_user_options *options = values;
    struct vhost_user *vu = to_vhost_user(export);
    struct placing placing = {.vu = vu, .request_queues = options->num_queues};
    struct hba_config config = {
        .id = export->id, .request_queues = options->num_queues, .homes = placing.homes};
    int rc;

    vu->user = str_format("export '%s'", export->id);
    rc = place_queues(&placing, options, reterr);
    if (rc == 0) {
        vu->hba = hba_new(&config, &vu_transport_ops, &vu->server);
        rc = vhost_user_open_server(vu, &options->addr, reterr);
    }
    if (rc < 0) {
        hba_co_free(take(&vu->hba));
        unuse_threads(vu);
        mem_free(take(&vu->user));
    }
    return rc;
}

MAIN_LOOP
static void add_device_name(const char *id, void *opaque)
{
    struct strbuf *text = opaque;

    strbuf_addf(text, "%s'%s'", text->bytes > 0 ? ", " : "", id);
}

MAIN_LOOP
static int vhost_user_check_unused(struct export *export, struct err **reterr)
{
    struct vhost_user *vu = to_vhost_user(export);
    bool connected = vu_server_is_connected(vu->server);
    size_t devices = hba_device_count(vu->hba);
    struct strbuf names = {0};

    if (!connected && devices == 0) {
        return 0;
    }
    hba_each_device_id(vu->hba, add_device_name, &names);
    err_set(reterr, EBUSY, "export '%s' still in use: %s%s%s%s; mode 'hard' disconnects and "
            "unplugs", export->id, connected ? "a front end is connected" : "",
            connected && devices > 0 ? ", " : "", devices > 0 ? "plugged are " : "",
            devices > 0 ? names.text : "");
    strbuf_fini(&names);
    return -EBUSY;
}

MAIN_LOOP
static void vhost_user_admit(struct export *export)
{
    vu_server_admit(to_vhost_user(export)->server);
}

MAIN_LOOP
static void vhost_user_shut(struct export *export)
{
    struct vhost_user *vu = to_vhost_user(export);

    vu_server_shut(vu->server);
    hba_close(vu->hba);
}

MAIN_LOOP CO_FN
static void vhost_user_close(struct export *export)
{
    struct vhost_user *vu = to_vhost_user(export);

    vu_server_co_free(vu->server);
    vu->server = NULL; /* a ring may still report that it broke */
    device_co_delete_all_of(vu->hba);
    hba_co_free(take(&vu->hba));
    unuse_threads(vu);
    mem_free(take(&vu->user));
}

MAIN_LOOP
static void append_device_id(const char *id, void *opaque)
{
    json_array_append_new(opaque, json_string(id));
}

MAIN_LOOP
static void vhost_user_describe(struct export *export, json_t *object)
{
    struct vhost_user *vu = to_vhost_user(export);
    json_t *ids = json_array();

    if (vu->hba != NULL) {
        hba_each_device_id(vu->hba, append_device_id, ids);
    }
    json_object_set_new(object, "devices", ids);
    json_object_set_new(object, "connected",
                        json_boolean(vu->server != NULL && vu_server_is_connected(vu->server)));
}

MAIN_LOOP
static void vhost_user_describe_requests(struct export *export, json_t *to_array)
{
    struct vhost_user *vu = to_vhost_user(export);

    if (vu->hba != NULL) {
        hba_describe_requests(vu->hba, to_array);
    }
}

const struct export_type vhost_user_scsi_export_type = {
    .name = "vhost-user-scsi",
    .options = &vhost_user_table,
    .since = "0.1",
    .bytes = sizeof(struct vhost_user),
    .co_open = vhost_user_open,
    .check_unused = vhost_user_check_unused,
    .admit = vhost_user_admit,
    .shut = vhost_user_shut,
    .co_close = vhost_user_close,
    .describe = vhost_user_describe,
    .describe_requests = vhost_user_describe_requests,
};
