/* test_io.c -- file I/O of coroutines: every mode, short transfers, big ones, O_DIRECT. */
#include "harness.h"
#include "base/mem.h"
#include "os/file.h"

enum { BIG_BYTES = 24 << 20, PIECES = 100, DIRECT_BYTES = 64 << 10 };

struct scene {
    int fd;
    enum io_mode mode;
};

static int open_scratch(int flags)
{
    char path[] = "/var/tmp/caisson-io-XXXXXX"; /* not tmpfs: O_DIRECT */
    int fd = os_mkstemp(path);

    assert_true(fd >= 0);
    if (flags != 0) {
        os_close(fd);
        fd = os_open(path, O_RDWR | flags, 0);
    }
    os_unlink(path);
    return fd;
}

/* Once through the engine and once through the pool. */
static void in_both_modes(co_fn *fn, int flags)
{
    for (enum io_mode mode = IO_ENGINE; mode <= IO_THREADS; mode++) {
        struct scene scene = {open_scratch(flags), mode};

        if (scene.fd < 0) {
            print_message("skipped: no file of that kind here (error %d)\n", -scene.fd);
            return;
        }
        run_co(fn, &scene);
        os_close(scene.fd);
    }
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at * 7 + at / 251);
}

MAIN_LOOP CO_FN
static void reads_around_the_end(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    char out[8192], in[8192];
    struct iovec to = {out, sizeof(out)}, from[3] = {{in, 100}, {in + 100, 0}, {in + 100, 8000}};
    struct iovec empty = {in, 0};

    for (size_t i = 0; i < countof(out); i++) {
        out[i] = (char)pattern(i);
    }
    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_pwritev(&file, &to, 1, 4096, 0) == sizeof(out));
    expect(io_co_pwritev(&file, &to, 1, 0, IO_FUA) == sizeof(out));
    expect(io_co_fdatasync(&file) == 0);
    expect(io_co_preadv(&file, from, 3, 0) == 8100);
    expect(memcmp(in, out, 8100) == 0);
    expect(io_co_preadv(&file, from, 3, 8192) == 4096); /* 12288 is the end: short */
    expect(memcmp(in, out + 4096, 4096) == 0);
    expect(io_co_preadv(&file, from, 3, 1 << 20) == 0);
    expect(io_co_preadv(&file, &empty, 1, 0) == 0);
    expect(io_co_pwritev(&file, &empty, 1, 0, 0) == 0);
    io_file_fini(&file);
}

static void a_read_is_short_only_at_the_end(void **state)
{
    in_both_modes(reads_around_the_end, 0);
}

MAIN_LOOP CO_FN
static void writes_much_in_pieces(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    uint8_t *out = mem_alloc(BIG_BYTES), *in = mem_alloc(BIG_BYTES);
    struct iovec pieces[PIECES], whole = {in, BIG_BYTES};
    size_t at = 0;

    for (size_t i = 0; i < BIG_BYTES; i++) {
        out[i] = pattern(i);
    }
    for (size_t i = 0; i < PIECES; i++) {
        size_t bytes = i == PIECES - 1 ? BIG_BYTES - at : BIG_BYTES / PIECES - 13 * (i % 5);

        pieces[i] = (struct iovec){out + at, bytes};
        at += bytes;
    }
    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_pwritev(&file, pieces, PIECES, 12345, 0) == BIG_BYTES);
    expect(io_co_preadv(&file, &whole, 1, 12345) == BIG_BYTES);
    expect(memcmp(in, out, BIG_BYTES) == 0);
    io_file_fini(&file);
    mem_free(in);
    mem_free(out);
}

static void big_transfers_in_odd_pieces(void **state)
{
    in_both_modes(writes_much_in_pieces, 0);
}

MAIN_LOOP CO_FN
static void goes_around_the_cache(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    uint8_t *memory = mem_try_alloc_aligned(4096, DIRECT_BYTES);
    struct iovec iov = {memory, DIRECT_BYTES};

    io_file_init(&file, scene->fd, scene->mode);
    memset(memory, 0x5a, DIRECT_BYTES);
    expect(io_co_pwritev(&file, &iov, 1, 4096, 0) == DIRECT_BYTES);
    memset(memory, 0, DIRECT_BYTES);
    expect(io_co_preadv(&file, &iov, 1, 8192) == DIRECT_BYTES - 4096);
    expect(memory[0] == 0x5a && memory[DIRECT_BYTES - 4097] == 0x5a);
    expect(io_co_fallocate(&file, 0, 0, 1 << 20) == 0);
    expect(io_co_preadv(&file, &iov, 1, 128 << 10) == DIRECT_BYTES);
    expect(memory[0] == 0);
    io_file_fini(&file);
    mem_free(memory);
}

static void direct_io(void **state)
{
    in_both_modes(goes_around_the_cache, O_DIRECT);
}

/* An odd-sized file read with O_DIRECT: ends off a sector's boundary, where nothing can follow. */
MAIN_LOOP CO_FN
static void reads_an_odd_end(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    uint8_t *memory = mem_try_alloc_aligned(4096, DIRECT_BYTES);
    struct iovec iov = {memory, DIRECT_BYTES};

    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_preadv(&file, &iov, 1, 0) == 5000);
    io_file_fini(&file);
    mem_free(memory);
}

static void direct_io_at_an_odd_end(void **state)
{
    for (enum io_mode mode = IO_ENGINE; mode <= IO_THREADS; mode++) {
        struct scene scene = {open_scratch(O_DIRECT), mode};

        assert_true(scene.fd >= 0);
        assert_int_equal(os_ftruncate(scene.fd, 5000), 0);
        run_co(reads_an_odd_end, &scene);
        os_close(scene.fd);
    }
}

/* ---- errors ---- */

MAIN_LOOP CO_FN
static void expects_errors(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    char byte = 'x';
    struct iovec iov = {&byte, 1};

    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_pwritev(&file, &iov, 1, 0, 0) == -EBADF); /* read-only */
    expect(io_co_fallocate(&file, 0, 0, 4096) == -EBADF);
    io_file_fini(&file);
}

MAIN_LOOP CO_FN
static void expects_a_full_device(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    char byte = 'x';
    struct iovec iov = {&byte, 1};

    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_pwritev(&file, &iov, 1, 0, 0) == -ENOSPC);
    io_file_fini(&file);
}

static void errors_come_back(void **state)
{
    for (enum io_mode mode = IO_ENGINE; mode <= IO_THREADS; mode++) {
        struct scene scene = {os_open("/etc/passwd", O_RDONLY, 0), mode};
        struct scene full = {os_open("/dev/full", O_RDWR, 0), mode};

        run_co(expects_errors, &scene);
        run_co(expects_a_full_device, &full);
        os_close(scene.fd);
        os_close(full.fd);
    }
}

/* ---- a pipe gives what it has, whatever was asked: continued until it ends ---- */

static int pipe_fds[2];

CO_FN
static void drips(void *opaque)
{
    loop_co_sleep(2000000);
    expect(write(pipe_fds[1], "abc", 3) == 3);
    loop_co_sleep(2000000);
    expect(write(pipe_fds[1], "defgh", 5) == 5);
    loop_co_sleep(2000000);
    os_close_now(pipe_fds[1]);
}

MAIN_LOOP CO_FN
static void reads_short_pieces(void *opaque)
{
    struct scene *scene = opaque;
    struct io_file file;
    char in[16] = "";
    struct iovec pieces[3] = {{in, 2}, {in + 2, 3}, {in + 5, 8}};

    loop_co_spawn(loop_self(), drips, NULL, "drips");
    io_file_init(&file, scene->fd, scene->mode);
    expect(io_co_preadv(&file, pieces, 3, UINT64_MAX) == 8);
    expect(memcmp(in, "abcdefgh", 8) == 0);
    io_file_fini(&file);
}

static void short_reads_are_continued(void **state)
{
    struct scene scene = {.mode = IO_ENGINE};

    if (test_engine == LOOP_ENGINE_EPOLL) {
        print_message("skipped: preadv(2) refuses pipes, only the ring reads them\n");
        return;
    }
    assert_int_equal(pipe(pipe_fds), 0); /* blocking */
    scene.fd = pipe_fds[0];
    run_co(reads_short_pieces, &scene);
    os_close_now(pipe_fds[0]);
}

/* ---- more at once than the queue holds ---- */

enum { CROWD = 1500 };
static struct io_file crowd_file;
static int crowd_left;

CO_FN
static void one_of_a_crowd(void *opaque)
{
    size_t number = (size_t)(uintptr_t)opaque;
    uint8_t block[512];
    struct iovec iov = {block, sizeof(block)};

    memset(block, (int)pattern(number), sizeof(block));
    expect(io_co_pwritev(&crowd_file, &iov, 1, number * sizeof(block), 0) == sizeof(block));
    memset(block, 0, sizeof(block));
    expect(io_co_preadv(&crowd_file, &iov, 1, number * sizeof(block)) == sizeof(block));
    expect(block[0] == pattern(number) && block[511] == pattern(number));
    if (--crowd_left == 0) {
        loop_stop(loop_self());
    }
}

static void a_full_queue_is_submitted_and_goes_on(void **state)
{
    int fd = open_scratch(0);

    loop_assert_main();
    for (enum io_mode mode = IO_ENGINE; mode <= IO_THREADS; mode++) {
        io_file_init(&crowd_file, fd, mode);
        crowd_left = CROWD;
        for (size_t i = 0; i < CROWD; i++) {
            loop_co_spawn(*state, one_of_a_crowd, (void *)(uintptr_t)i, "crowd");
        }
        loop_run(*state);
        io_file_fini(&crowd_file);
    }
    os_close(fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(a_read_is_short_only_at_the_end),
        loop_test(big_transfers_in_odd_pieces),
        loop_test(direct_io),
        loop_test(direct_io_at_an_odd_end),
        loop_test(errors_come_back),
        loop_test(short_reads_are_continued),
        loop_test(a_full_queue_is_submitted_and_goes_on),
    };
    int failures;

    test_begin(argc, argv);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    pool_stop();
    return failures;
}
