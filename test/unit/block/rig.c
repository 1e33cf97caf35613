/* rig.c -- see rig.h. */
#include "rig.h"
#include "base/iov.h"
#include "os/file.h"
#include "sync/rcu.h"

/* ---- the "mem" driver ------------------------------------------------------------------------ */

struct mem_options {
    struct blk_common_options common;
    uint64_t bytes;
    uint32_t align, memory_align, max;
    bool yields, has_zeroes;
};

static const struct opt mem_opts[] = {
    {.name = "size", .type = OPT_SIZE, OPT_AT(struct mem_options, bytes), .dflt = "64k"},
    {.name = "align", .type = OPT_U32, OPT_AT(struct mem_options, align), .dflt = "1"},
    {.name = "memory-align", .type = OPT_U32, OPT_AT(struct mem_options, memory_align),
     .dflt = "1"},
    {.name = "max", .type = OPT_U32, OPT_AT(struct mem_options, max), .dflt = "0"},
    {.name = "yields", .type = OPT_BOOL, OPT_AT(struct mem_options, yields), .dflt = "off"},
    {.name = "has-zeroes", .type = OPT_BOOL, OPT_AT(struct mem_options, has_zeroes), .dflt = "on"},
};
static const struct opt_table mem_table = {
    .name = "mem", .base = &blk_common_options_table, .opts = mem_opts, .count = countof(mem_opts),
    .values_bytes = sizeof(struct mem_options)};

struct mem_disk *mem_disk(const char *node_name)
{
    return blk_node_state(blk_node_find(node_name));
}

MAIN_LOOP CO_FN
static int mem_open(struct blk_node *node, const void *values, struct err **reterr)
{
    const struct mem_options *options = values;
    struct mem_disk *disk = blk_node_state(node);
    struct blk_limits *limits = blk_node_limits_rw(node);

    disk->bytes = mem_alloc(options->bytes + options->align);
    disk->request_alignment = limits->request_alignment = options->align;
    disk->memory_alignment = limits->memory_alignment = options->memory_align;
    disk->transfer_max = limits->transfer_bytes_max = options->max;
    disk->yields = options->yields;
    disk->has_zeroes = options->has_zeroes;
    blk_node_set_bytes(node, options->bytes);
    return 0;
}

MAIN_LOOP CO_FN
static void mem_close(struct blk_node *node)
{
    struct mem_disk *disk = blk_node_state(node);

    loop_co_sleep(1000); /* slowly */
    mem_free(disk->bytes);
}

CO_FN
static void wait_if_told(struct mem_disk *disk)
{
    if (disk->yields) {
        co_yield_turn();
    }
    while (at_load(&disk->is_stuck)) {
        loop_co_sleep(100000);
    }
}

/* What the core promises a driver (request.c, Q1). */
static void check(struct blk_node *node, struct mem_disk *disk, uint64_t offset, uint64_t bytes,
                  const struct iovec *iov, size_t count)
{
    uint64_t align = disk->request_alignment;

    expect(offset % align == 0);
    expect(bytes % align == 0);
    expect(bytes > 0);
    expect(offset + bytes <= (blk_node_bytes(node) + align - 1) / align * align);
    if (iov != NULL) {
        expect(disk->transfer_max == 0 || bytes <= disk->transfer_max);
        expect(iov_bytes(iov, count) == bytes);
        expect(count <= IOV_MAX_ELEMENTS);
        for (size_t i = 0; i < count; i++) {
            expect((uintptr_t)iov[i].iov_base % disk->memory_alignment == 0);
        }
    }
}

CO_FN GRAPH_RD
static int mem_preadv(struct blk_node *node, uint64_t offset, uint64_t bytes,
                      const struct iovec *iov, size_t count, unsigned flags)
{
    struct mem_disk *disk = blk_node_state(node);

    check(node, disk, offset, bytes, iov, count);
    at_add(&disk->reads, 1);
    iov_copy_in(iov, count, 0, disk->bytes + offset, bytes);
    wait_if_told(disk);
    return 0;
}

CO_FN GRAPH_RD
static int mem_pwritev(struct blk_node *node, uint64_t offset, uint64_t bytes,
                       const struct iovec *iov, size_t count, unsigned flags)
{
    struct mem_disk *disk = blk_node_state(node);

    check(node, disk, offset, bytes, iov, count);
    at_add(&disk->writes, 1);
    at_add(&disk->fua_writes, (flags & BLK_REQ_FUA) ? 1 : 0);
    wait_if_told(disk);
    if (disk->fails_writes) {
        return -ENOSPC;
    }
    iov_copy_out(iov, count, 0, disk->bytes + offset, bytes);
    return 0;
}

CO_FN GRAPH_RD
static int mem_flush(struct blk_node *node)
{
    struct mem_disk *disk = blk_node_state(node);

    at_add(&disk->flushes, 1);
    return 0;
}

CO_FN GRAPH_RD
static int mem_discard(struct blk_node *node, uint64_t offset, uint64_t bytes)
{
    struct mem_disk *disk = blk_node_state(node);

    at_add(&disk->discards, 1);
    disk->discarded_offset = offset;
    disk->discarded_bytes = bytes;
    return 0;
}

CO_FN GRAPH_RD
static int mem_zeroes(struct blk_node *node, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct mem_disk *disk = blk_node_state(node);

    if (!disk->has_zeroes) {
        return -ENOTSUP;
    }
    check(node, disk, offset, bytes, NULL, 0);
    at_add(&disk->zeroes, 1);
    memset(disk->bytes + offset, 0, bytes);
    return 0;
}

MAIN_LOOP CO_FN
static int mem_perms(struct blk_node *node, unsigned perm, unsigned shared, struct err **reterr)
{
    struct mem_disk *disk = blk_node_state(node);
    unsigned unshared = BLK_PERM_ALL & ~shared;

    loop_co_sleep(1000); /* slowly */
    if ((perm & ~disk->perm) != 0 || (unshared & ~disk->unshared) != 0) {
        if (disk->perms_answer < 0) {
            return err_set(reterr, -disk->perms_answer, "mem says no");
        }
    }
    disk->perm = perm;
    disk->unshared = unshared;
    return 0;
}

const struct blk_driver mem_driver = {
    .name = "mem",
    .options = &mem_table,
    .state_bytes = sizeof(struct mem_disk),
    .co_open = mem_open,
    .co_close = mem_close,
    .co_set_perms = mem_perms,
    .co_preadv = mem_preadv,
    .co_pwritev = mem_pwritev,
    .co_flush = mem_flush,
    .co_discard = mem_discard,
    .co_write_zeroes = mem_zeroes,
    .supports_fua = false,
};

/* ---- set up and tear down -------------------------------------------------------------------- */

static const struct blk_driver *const drivers[] = {&blk_driver_file, &blk_driver_null_co,
                                                   &blk_driver_raw, &mem_driver};
static char scratch[16][40];
static unsigned scratches;

const char *scratch_file(uint64_t bytes)
{
    char *path = scratch[scratches++];
    int fd;

    snprintf(path, sizeof(scratch[0]), "/tmp/caisson-blk-XXXXXX");
    fd = os_mkstemp(path);
    expect(fd >= 0);
    expect(os_ftruncate(fd, bytes) == 0);
    os_close(fd);
    return path;
}

int block_setup(void **state)
{
    setup_loop(state);
    loop_assert_main();
    blk_drivers_set(drivers, countof(drivers));
    return 0;
}

static void node_left(struct blk_node *node, void *opaque)
{
    panic("node '%s' is left", blk_node_name(node));
}

int block_teardown(void **state)
{
    loop_assert_main();
    blk_node_each(node_left, NULL);
    blk_fini();
    while (scratches > 0) {
        os_unlink(scratch[--scratches]);
    }
    return teardown_loop(state);
}

int block_test_main(int argc, char **argv, const char *group, const struct CMUnitTest *tests,
                    size_t count)
{
    int rc;

    test_begin(argc, argv);
    asym_init();
    rc = _cmocka_run_group_tests(group, tests, count, NULL, NULL);
    pool_stop();
    return rc;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static json_t *parse(const char *json)
{
    json_error_t error;
    json_t *object = json_loads(json, 0, &error);

    if (object == NULL) {
        panic("%s: %s", json, error.text);
    }
    return object;
}

void add(const char *format, ...)
{
    struct err *error = NULL;
    json_t *options;
    va_list args;
    char *json;

    va_start(args, format);
    json = str_vformat(format, args);
    va_end(args);
    options = parse(json);
    if (blk_node_co_add(options, 0, &error) < 0) {
        panic("%s: %s", json, error->text);
    }
    json_decref(options);
    mem_free(json);
}

void add_text(const char *text)
{
    struct err *error = NULL;
    json_t *options;
    unsigned flags;
    bool help;

    expect(opt_parse_string(text, "driver", &options, &flags, &help, NULL) == 0);
    if (blk_node_co_add(options, flags, &error) < 0) {
        panic("%s: %s", text, error->text);
    }
    json_decref(options);
}

static void expect_error(int rc, struct err *error, const char *text)
{
    expect(rc < 0);
    expect(error != NULL);
    if (strstr(error->text, text) == NULL) {
        panic("'%s' does not say '%s'", error->text, text);
    }
    err_free(error);
}

void add_fails(const char *json, const char *text)
{
    struct err *error = NULL;
    json_t *options = parse(json);
    int rc = blk_node_co_add(options, 0, &error);

    expect_error(rc, error, text);
    json_decref(options);
}

void del(const char *name)
{
    struct err *error = NULL;

    if (blk_node_co_delete(name, &error) < 0) {
        panic("%s", error->text);
    }
}

void del_fails(const char *name, const char *text)
{
    struct err *error = NULL;
    int rc = blk_node_co_delete(name, &error);

    expect_error(rc, error, text);
}

/* ---- users ----------------------------------------------------------------------------------- */

MAIN_LOOP
static const char *user_describe(void *opaque)
{
    const struct test_user *user = opaque;

    return user->name;
}

MAIN_LOOP
static void user_restart(void *opaque)
{
    struct test_user *user = opaque;

    expect(!blk_root_is_gated(user->root)); /* (D4): nothing parks behind this restart's back */
    user->restarts++;
    if (user->on_restart != NULL) {
        user->on_restart(user);
    }
}

static const struct blk_root_ops user_ops = {.describe = user_describe, .restart = user_restart};

void user_open(struct test_user *user, const char *name, const char *node, unsigned perm,
               unsigned shared)
{
    struct err *error = NULL;

    *user = (struct test_user){.name = name};
    if (blk_root_co_new(blk_node_find(node), perm, shared, &user_ops, user, &user->root, &error) <
        0) {
        panic("%s", error->text);
    }
}

void user_open_fails(const char *node, unsigned perm, unsigned shared, const char *text)
{
    struct test_user user = {.name = "user 'refused'"};
    struct err *error = NULL;
    int rc = blk_root_co_new(blk_node_find(node), perm, shared, &user_ops, &user, &user.root,
                             &error);

    expect_error(rc, error, text);
}

void user_close(struct test_user *user)
{
    blk_root_co_free(take(&user->root));
}

int user_read(struct test_user *user, uint64_t offset, void *to, size_t bytes)
{
    struct iovec iov = {to, bytes};
    int rc;

    if (!blk_root_raise(user->root)) {
        return -EAGAIN;
    }
    rc = blk_root_co_preadv(user->root, offset, bytes, &iov, 1, 0);
    blk_root_drop(user->root);
    return rc;
}

int user_write(struct test_user *user, uint64_t offset, const void *from, size_t bytes,
               unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)from, bytes};
    int rc;

    if (!blk_root_raise(user->root)) {
        return -EAGAIN;
    }
    rc = blk_root_co_pwritev(user->root, offset, bytes, &iov, 1, flags);
    blk_root_drop(user->root);
    return rc;
}

int user_zero(struct test_user *user, uint64_t offset, uint64_t bytes, unsigned flags)
{
    int rc;

    if (!blk_root_raise(user->root)) {
        return -EAGAIN;
    }
    rc = blk_root_co_write_zeroes(user->root, offset, bytes, flags);
    blk_root_drop(user->root);
    return rc;
}

/* ---- coroutines side by side ----------------------------------------------------------------- */

static unsigned running; /* atomic */

struct begun {
    void (*fn)(void *opaque);
    void *opaque;
};

static void begun_main(void *opaque)
{
    struct begun begun = *(struct begun *)opaque;

    mem_free(opaque);
    begun.fn(begun.opaque);
    at_sub(&running, 1);
}

void begin(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
    struct begun *begun = mem_new(struct begun);

    *begun = (struct begun){fn, opaque};
    at_add(&running, 1);
    loop_co_spawn(loop, begun_main, begun, "begun");
}

void join(void)
{
    while (at_load(&running) > 0) {
        loop_co_sleep(200000);
    }
}

/* ---- I/O threads ----------------------------------------------------------------------------- */

static struct iothread *threads[4];
static unsigned thread_count;

void threads_start(unsigned count)
{
    static const struct iothread_options options = {.thread_pool_max = 8};

    while (thread_count < count) {
        char name[16];

        snprintf(name, sizeof(name), "io%u", thread_count);
        expect(iothread_co_new(name, &options, NULL) == 0);
        threads[thread_count++] = iothread_find(name);
    }
}

void threads_stop(void)
{
    while (thread_count > 0) {
        expect(iothread_co_delete(threads[--thread_count], NULL) == 0);
    }
}

struct loop *thread_loop(unsigned i)
{
    loop_assert_main();
    return thread_count == 0 ? loop_main() : iothread_loop(threads[i % thread_count]);
}
