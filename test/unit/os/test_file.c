/* test_file.c -- files, locks between open descriptions, eventfds, close-on-exec. */
#include "helper.h"
#include "os/file.h"
#include <errno.h>
#include <poll.h>
#include <string.h>

static char path[64];

static int new_file(uint64_t bytes)
{
    int fd;

    memcpy(path, "/tmp/caisson-os-XXXXXX", sizeof("/tmp/caisson-os-XXXXXX"));
    fd = os_mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(os_ftruncate(fd, bytes), 0);
    return fd;
}

static void remove_file(int fd)
{
    assert_int_equal(os_close(fd), 0);
    assert_int_equal(os_unlink(path), 0);
}

static void read_and_write(void **state)
{
    int fd = new_file(0);
    char in[10] = "";
    struct iovec out_iov[2] = {{"hello", 5}, {"world", 5}};
    struct iovec in_iov = {in, sizeof(in)};
    struct stat info;

    assert_int_equal(os_pwritev(fd, out_iov, 2, 100, true), 10);
    assert_int_equal(os_preadv(fd, &in_iov, 1, 105), 5);
    assert_memory_equal(in, "world", 5);
    assert_int_equal(os_fstat(fd, &info), 0);
    assert_int_equal(info.st_size, 110);
    assert_int_equal(os_fdatasync(fd), 0);
    remove_file(fd);
    assert_int_equal(os_stat(path, &info), -ENOENT);
    assert_int_equal(os_open(path, O_RDONLY, 0), -ENOENT);
    assert_int_equal(os_preadv(fd, &in_iov, 1, 0), -EBADF);
}

static void holes(void **state)
{
    int fd = new_file(4 << 20);
    char block[4096];
    struct iovec iov = {memset(block, 1, sizeof(block)), sizeof(block)};
    int64_t data;

    assert_int_equal(os_pwritev(fd, &iov, 1, 2 << 20, false), 4096);
    data = os_seek_data(fd, 0);
    assert_true(data == 2 << 20 || data == 0); /* 0: a file system without holes */
    assert_int_equal(os_seek_data(fd, 4 << 20), -ENXIO);
    assert_true(os_seek_hole(fd, 2 << 20) >= (2 << 20) + 4096);
    remove_file(fd);
}

/* An open-file-description lock excludes another description, even of this same process. */
static void locks_of_two_descriptions(void **state)
{
    int a = new_file(4096), b = os_open(path, O_RDWR, 0);

    assert_int_equal(os_lock(a, 100, 1, OS_LOCK_SHARED), 0);
    assert_int_equal(os_lock(b, 100, 1, OS_LOCK_SHARED), 0);
    assert_int_equal(os_lock(b, 100, 1, OS_LOCK_EXCLUSIVE), -EAGAIN);
    assert_int_equal(os_unlock(a, 100, 1), 0);
    assert_int_equal(os_lock(b, 100, 1, OS_LOCK_EXCLUSIVE), 0);
    assert_int_equal(os_lock_test(a, 100, 1, OS_LOCK_SHARED), -EAGAIN);
    assert_int_equal(os_lock_test(a, 101, 1, OS_LOCK_EXCLUSIVE), 0);
    assert_int_equal(os_lock_test(b, 100, 1, OS_LOCK_EXCLUSIVE), 0); /* its own is no conflict */
    assert_int_equal(os_close(b), 0);
    assert_int_equal(os_lock_test(a, 0, 4096, OS_LOCK_EXCLUSIVE), 0); /* gone with its holder */
    remove_file(a);
}

static void lock_survives_close_of_another(void **state)
{
    int a = new_file(4096), b = os_open(path, O_RDWR, 0), c = os_open(path, O_RDWR, 0);

    assert_int_equal(os_lock(a, 0, 1, OS_LOCK_EXCLUSIVE), 0);
    assert_int_equal(os_close(b), 0); /* the trap of POSIX locks */
    assert_int_equal(os_lock(c, 0, 1, OS_LOCK_SHARED), -EAGAIN);
    assert_int_equal(os_close(c), 0);
    remove_file(a);
}

static void eventfd_counts_and_never_waits(void **state)
{
    int fd = os_eventfd();
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    assert_false(os_eventfd_clear(fd));
    os_eventfd_signal(fd);
    os_eventfd_signal(fd);
    assert_int_equal(poll(&poll_fd, 1, 0), 1);
    assert_true(os_eventfd_clear(fd));
    assert_false(os_eventfd_clear(fd));
    assert_int_equal(poll(&poll_fd, 1, 0), 0);
    os_close_now(fd);
}

/* A peer that fills our eventfd must not hold us up. */
static void full_foreign_eventfd(void **state)
{
    const uint64_t nearly_all = UINT64_MAX - 1;
    int fd = os_eventfd();

    assert_int_equal(os_write(fd, &nearly_all, sizeof(nearly_all)), sizeof(nearly_all));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    os_eventfd_signal(fd);
    assert_true(os_eventfd_clear(fd));
    os_close_now(fd);
}

static void descriptors_close_on_exec(void **state)
{
    unsigned before = os_fd_count();
    int fds[5], pair[2];

    fds[0] = os_eventfd();
    fds[1] = os_memfd("test", 4096);
    fds[2] = os_dup(fds[1]);
    assert_int_equal(os_pipe(pair), 0);
    fds[3] = pair[0];
    fds[4] = pair[1];
    assert_int_equal(os_fd_count(), before + 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        assert_int_equal(os_close_now(fds[i]), 0);
    }
    assert_int_equal(os_fd_count(), before);
    assert_int_equal(os_close_now(fds[0]), -EBADF);
}

static void direct_alignment(void **state)
{
    int fd = new_file(4096);
    unsigned memory = 0, offset = 0;
    int rc = os_direct_alignment(fd, &memory, &offset);

    if (rc == 0) {
        assert_true(memory > 0 && (memory & (memory - 1)) == 0);
        assert_true(offset > 0 && (offset & (offset - 1)) == 0);
    } else {
        assert_int_equal(rc, -EOPNOTSUPP);
    }
    remove_file(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_and_write),
        cmocka_unit_test(holes),
        cmocka_unit_test(locks_of_two_descriptions),
        cmocka_unit_test(lock_survives_close_of_another),
        cmocka_unit_test(eventfd_counts_and_never_waits),
        cmocka_unit_test(full_foreign_eventfd),
        cmocka_unit_test(descriptors_close_on_exec),
        cmocka_unit_test(direct_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
