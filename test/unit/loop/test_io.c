/* test_io.c -- file I/O of coroutines. */
#include "harness.h"
#include "os/file.h"

MAIN_LOOP CO_FN
static void write_and_read_back(void *opaque)
{
    struct io_file file;
    char out[8192], in[8192];
    struct iovec to = {out, sizeof(out)}, from = {in, sizeof(in)};

    memset(out, 'x', sizeof(out));
    io_file_init(&file, *(int *)opaque, IO_ENGINE);
    expect(io_co_pwritev(&file, &to, 1, 4096, 0) == sizeof(out));
    expect(io_co_fdatasync(&file) == 0);
    expect(io_co_preadv(&file, &from, 1, 8192) == 4096);
    expect(memcmp(in, out, 4096) == 0);
    expect(io_co_preadv(&file, &from, 1, 1 << 20) == 0);
    io_file_fini(&file);
}

static void round_trip(void **state)
{
    char path[] = "/tmp/caisson-io-XXXXXX";
    int fd = os_mkstemp(path);

    assert_true(fd >= 0);
    os_unlink(path);
    run_co(write_and_read_back, &fd);
    os_close(fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(round_trip),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
