/*
 * test_file.c -- the file driver: I/O, O_DIRECT, zeroes and holes, and image locks against other
 * processes. Needs python3 for the second process; qemu-io's opinion is asked too where it is
 * installed.
 */
#include "rig.h"
#include "block/protocol/file_int.h"
#include "os/file.h"
#include <sys/wait.h>

static const char *const modes[] = {
    "\"aio\":\"threads\"",
    "\"aio\":\"io_uring\"",
    "\"aio\":\"native\",\"cache\":{\"direct\":true}",
    "\"aio\":\"threads\",\"cache\":{\"direct\":true,\"no-flush\":true}",
};

MAIN_LOOP CO_FN
static void add_file(const char *name, const char *path, const char *more)
{
    add("{\"driver\":\"file\",\"node-name\":\"%s\",\"filename\":\"%s\"%s%s}", name, path,
        more[0] != '\0' ? "," : "", more);
}

struct look {
    const char *path;
    uint8_t *to;
    size_t bytes;
};

/* The file as anybody sees it. */
BLOCKING
static int64_t look_blocking(void *opaque)
{
    const struct look *look = opaque;
    int fd = os_open(look->path, O_RDONLY, 0);
    ssize_t bytes = os_read(fd, look->to, look->bytes);

    os_close(fd);
    return bytes;
}

/* What was written through us is what others read, for each way of doing I/O. */
MAIN_LOOP CO_FN
static void round_trip(void *opaque)
{
    const char *mode = opaque;
    const char *path = scratch_file(100000);
    static uint8_t out[50000], in[50000], disk[100352], expected[100352];
    struct look look = {path, disk, sizeof(disk)};
    struct test_user user;

    memset(expected, 0, sizeof(expected));
    memset(out, 0x5a, sizeof(out));
    memcpy(expected + 12345, out, sizeof(out));
    memset(expected + 20000, 0, 9000);
    memcpy(expected + 99990, out, 10);
    add_file("f", path, mode);
    user_open(&user, "test", "f", PERM_RW, BLK_PERM_ALL);
    expect(blk_root_bytes(user.root) == 100000);
    expect(user_write(&user, 12345, out, sizeof(out), BLK_REQ_FUA) == 0);
    expect(user_zero(&user, 20000, 9000, BLK_REQ_MAY_UNMAP) == 0);
    expect(user_write(&user, 99990, out, 10, 0) == 0);
    expect(user_read(&user, 12345, in, sizeof(in)) == 0);
    expect(memcmp(in, expected + 12345, sizeof(in)) == 0);
    expect(user_read(&user, 99000, in, 1000) == 0);
    expect(memcmp(in, expected + 99000, 1000) == 0);
    expect(user_read(&user, 99000, in, 1001) == -EIO);
    expect(blk_root_raise(user.root));
    expect(blk_root_co_flush(user.root) == 0);
    blk_root_drop(user.root);
    user_close(&user);
    del("f");
    expect(pool_co_call(NULL, look_blocking, &look) >= 100000);
    expect(memcmp(disk, expected, 100000) == 0);
}

static void test_round_trip(void **state)
{
    for (size_t i = 0; i < countof(modes); i++) {
        run_co(round_trip, (void *)(uintptr_t)modes[i]);
    }
}

MAIN_LOOP CO_FN
static void holes(void *opaque)
{
    const char *path = scratch_file(1 << 20);
    static uint8_t block[65536];
    struct test_user user;
    unsigned what;
    uint64_t run;

    memset(block, 1, sizeof(block));
    add_file("f", path, "\"discard\":\"unmap\"");
    user_open(&user, "test", "f", PERM_RW, BLK_PERM_ALL);
    expect(user_write(&user, 65536, block, sizeof(block), 0) == 0);
    expect(user_write(&user, 131072, block, sizeof(block), 0) == 0);
    expect(blk_root_raise(user.root));
    expect(blk_root_co_status(user.root, 0, 1 << 20, &what, &run) == 0);
    expect(run == 65536 && (what & BLK_STATUS_ZERO) && (what & BLK_STATUS_HOLE));
    expect(blk_root_co_status(user.root, 70000, 1 << 18, &what, &run) == 0);
    expect(run == 196608 - 70000 && what == BLK_STATUS_DATA);
    expect(blk_root_co_discard(user.root, 65536, 65536) == 0);
    expect(blk_root_co_status(user.root, 0, 1 << 20, &what, &run) == 0);
    expect(run == 131072 && (what & BLK_STATUS_HOLE));
    expect(blk_root_co_status(user.root, 1 << 19, 1 << 19, &what, &run) == 0);
    expect(run == 1 << 19 && (what & BLK_STATUS_ZERO));
    blk_root_drop(user.root);
    user_close(&user);
    del("f");
}

static void test_holes(void **state)
{
    run_co(holes, NULL);
}

/* ---- locks ----------------------------------------------------------------------------------- */

BLOCKING
static int64_t shell_blocking(void *opaque)
{
    int status = system(opaque);

    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* Exit status of a shell command. */
CO_FN
static int shell(const char *format, ...)
{
    va_list args;
    char *command;
    int status;

    va_start(args, format);
    command = str_vformat(format, args);
    va_end(args);
    status = (int)pool_co_call(NULL, shell_blocking, command);
    mem_free(command);
    return status;
}

/* Another process: "can byte @byte of the image be locked exclusively?", as QEMU asks. */
CO_FN
static bool others_see_locked(const char *path, unsigned at)
{
    int status = shell("python3 -c \"\n"
                       "import fcntl, struct, sys\n"
                       "f = open('%s', 'r+b')\n"
                       "lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, %u, 1, 0)\n"
                       "got = fcntl.fcntl(f, 36, lock)\n" /* F_OFD_GETLK */
                       "sys.exit(10 if struct.unpack('hhqqi4x', got)[0] == fcntl.F_UNLCK else 11)\n"
                       "\"",
                       path, at);

    expect(status == 10 || status == 11);
    return status == 11;
}

MAIN_LOOP CO_FN
static void lock_bytes(void *opaque)
{
    const char *path = scratch_file(1 << 20);
    struct test_user user, reader;

    add_file("f", path, "");
    add("{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"f\"}");
    expect(!others_see_locked(path, 100) && !others_see_locked(path, 201)); /* nobody uses it */
    user_open(&user, "device 'disk0'", "r", PERM_RW, PERM_READ);
    expect(others_see_locked(path, 100)); /* reads */
    expect(others_see_locked(path, 101)); /* writes */
    expect(!others_see_locked(path, 102));
    expect(!others_see_locked(path, 103));
    expect(!others_see_locked(path, 200)); /* others may read */
    expect(others_see_locked(path, 201));  /* but not write */
    user_open(&reader, "export 'e'", "f", PERM_READ, BLK_PERM_ALL);
    user_close(&user);
    expect(others_see_locked(path, 100) && !others_see_locked(path, 101));
    expect(!others_see_locked(path, 201));
    user_close(&reader);
    expect(!others_see_locked(path, 100));
    del("r");
    del("f");
}

static void test_lock_bytes(void **state)
{
    if (system("python3 -c ''") != 0) {
        print_message("skipped: python3 is not installed\n");
        skip();
    }
    run_co(lock_bytes, NULL);
}

/* A process that holds bytes of @path until its standard input closes; returns when it has them. */
struct holder {
    FILE *pipe;
};

static void hold(struct holder *holder, const char *path, const char *bytes)
{
    char *command = str_format("python3 -c \"\n"
                               "import fcntl, struct, sys\n"
                               "f = open('%s', 'r+b')\n"
                               "for b in (%s,):\n"
                               "  lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, b, 1, 0)\n"
                               "  fcntl.fcntl(f, 37, lock)\n"
                               "open('%s.held', 'w').close()\n"
                               "sys.stdin.read()\n"
                               "\"",
                               path, bytes, path);
    char *flag = str_format("%s.held", path);
    struct stat unused;

    holder->pipe = popen(command, "w");
    expect(holder->pipe != NULL);
    while (os_stat(flag, &unused) < 0) {
        usleep(1000);
    }
    os_unlink(flag);
    mem_free(flag);
    mem_free(command);
}

static void let_go(struct holder *holder)
{
    expect(pclose(holder->pipe) == 0);
}

static const char *held_path; /* by another process */

MAIN_LOOP CO_FN
static void locked_by_others(void *opaque)
{
    const char *path = held_path;
    struct test_user user;

    add_file("f", path, "");
    user_open_fails("f", PERM_RW, BLK_PERM_ALL,
                    "Failed to get \"write\" lock for node 'f': is another process using the "
                    "image");
    expect(!others_see_locked(path, 100)); /* given up again */
    user_open_fails("f", PERM_READ, PERM_READ, "Failed to get shared \"resize\" lock");
    user_open(&user, "export 'e'", "f", PERM_READ, BLK_PERM_ALL);
    user_close(&user);
    del("f");
    add_file("f", path, "\"locking\":\"off\"");
    user_open(&user, "export 'e'", "f", PERM_RW, PERM_READ);
    user_close(&user);
    del("f");
    add_file("f", path, "\"read-only\":true,\"force-share\":true");
    user_open(&user, "export 'e'", "f", PERM_READ, PERM_READ);
    user_close(&user);
    del("f");
}

MAIN_LOOP CO_FN
static void not_locked_any_more(void *opaque)
{
    struct test_user user;

    add_file("f", held_path, "\"locking\":\"on\"");
    user_open(&user, "export 'e'", "f", PERM_RW, PERM_READ);
    user_close(&user);
    del("f");
}

static void test_locked_by_others(void **state)
{
    struct holder holder;

    if (system("python3 -c ''") != 0) {
        print_message("skipped: python3 is not installed\n");
        skip();
    }
    held_path = scratch_file(1 << 20);
    hold(&holder, held_path, "103, 201"); /* resizes; does not share writing */
    run_co(locked_by_others, NULL);
    let_go(&holder);
    run_co(not_locked_any_more, NULL);
}

MAIN_LOOP CO_FN
static void locked_by_ourselves(void *opaque)
{
    const char *path = scratch_file(1 << 20);
    struct test_user user;

    add_file("f1", path, "");
    add_file("f2", path, "");
    user_open(&user, "device 'disk0'", "f1", PERM_RW, PERM_READ);
    user_open_fails("f2", PERM_RW, BLK_PERM_ALL,
                    "Failed to get \"write\" lock for node 'f2': node 'f1' of this daemon uses the "
                    "same image");
    user_close(&user);
    user_open(&user, "device 'disk1'", "f2", PERM_RW, PERM_READ);
    user_close(&user);
    del("f1");
    del("f2");
}

static void test_locked_by_ourselves(void **state)
{
    run_co(locked_by_ourselves, NULL);
}

/* qemu-io wants to write what we write: its own words. And the other way round. */
MAIN_LOOP CO_FN
static void qemu_agrees(void *opaque)
{
    const char *path = scratch_file(1 << 20);
    struct test_user user;

    add_file("f", path, "");
    user_open(&user, "device 'disk0'", "f", PERM_RW, PERM_READ);
    expect(shell("qemu-io -f raw -c 'write 0 4k' %s 2>&1 | grep -q 'Failed to get \"write\" lock'",
                 path) == 0);
    expect(shell("qemu-io -f raw -r -c 'read 0 4k' %s >/dev/null 2>&1", path) == 0);
    user_close(&user);
    expect(shell("qemu-io -f raw -c 'write 0 4k' %s >/dev/null 2>&1", path) == 0);
    expect(shell("(qemu-io -f raw -c 'sleep 3000' %s >/dev/null 2>&1; touch %s.end) & sleep 0.7",
                 path, path) == 0);
    user_open_fails("f", PERM_RW, PERM_READ, "Failed to get shared \"write\" lock");
    del("f");
    expect(shell("for i in $(seq 100); do [ -e %s.end ] && break; sleep 0.1; done; rm %s.end", path,
                 path) == 0);
}

static void test_qemu_agrees(void **state)
{
    if (system("qemu-io --version >/dev/null 2>&1") != 0) {
        print_message("skipped: qemu-io is not installed\n");
        skip();
    }
    run_co(qemu_agrees, NULL);
}

/* ---- a flush that fails ---------------------------------------------------------------------- */

CO_FN
static int user_flush(struct test_user *user)
{
    int rc;

    if (!blk_root_raise(user->root)) {
        return -EAGAIN;
    }
    rc = blk_root_co_flush(user->root);
    blk_root_drop(user->root);
    return rc;
}

/* (F3): a pipe cannot be flushed; that the file could be again later does not bring back what the
 * page cache has dropped. */
MAIN_LOOP CO_FN
static void failed_flush(void *opaque)
{
    struct test_user user;
    struct file_state *file;
    int pipe_fds[2], good;

    add_file("f", scratch_file(4096), "");
    user_open(&user, "test", "f", PERM_RW, BLK_PERM_ALL);
    expect(user_flush(&user) == 0);
    file = blk_node_state(blk_node_find("f"));
    expect(os_pipe(pipe_fds) == 0);
    good = os_dup(file->io.fd);
    expect(dup2(pipe_fds[0], file->io.fd) == file->io.fd);
    expect(user_flush(&user) < 0);
    expect(dup2(good, file->io.fd) == file->io.fd);
    expect(user_flush(&user) < 0);
    os_close_now(pipe_fds[0]);
    os_close_now(pipe_fds[1]);
    os_close_now(good);
    user_close(&user);
    del("f");
}

static void test_failed_flush(void **state)
{
    run_co(failed_flush, NULL);
}

/* ---- opening --------------------------------------------------------------------------------- */

MAIN_LOOP CO_FN
static void opening(void *opaque)
{
    const char *path = scratch_file(4096);
    unsigned before = os_fd_count();
    struct test_user user;

    add_fails("{\"driver\":\"file\",\"node-name\":\"a\",\"filename\":\"/proc/cpuinfo\","
              "\"cache\":{\"direct\":true},\"read-only\":true}",
              "/proc/cpuinfo");
    add_file("f", path, "\"read-only\":true");
    user_open_fails("f", PERM_RW, BLK_PERM_ALL, "Block node 'f' is read-only");
    user_open(&user, "x", "f", PERM_READ, BLK_PERM_ALL);
    expect(user_write(&user, 0, "x", 1, 0) == -EPERM);
    expect(user_zero(&user, 0, 1, 0) == -EPERM);
    user_close(&user);
    del("f");
    expect(os_fd_count() == before);
}

static void test_opening(void **state)
{
    run_co(opening, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        block_test(test_round_trip),       block_test(test_holes),
        block_test(test_lock_bytes),       block_test(test_locked_by_others),
        block_test(test_locked_by_ourselves), block_test(test_qemu_agrees),
        block_test(test_opening),          block_test(test_failed_flush),
    };

    return block_test_main(argc, argv, "file", tests, countof(tests));
}
