/* test_socket.c -- unix sockets, stale socket files, descriptors that travel. */
#include "helper.h"
#include "os/file.h"
#include "os/socket.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static char path[64];

static void choose_path(void)
{
    snprintf(path, sizeof(path), "/tmp/caisson-socket-%d", getpid());
}

static ssize_t send_text(int fd, const char *text, const int *fds, int count)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

    return os_send(fd, &iov, 1, fds, count);
}

static void connection(void **state)
{
    int listener, client, server, fds[OS_SOCKET_FDS_MAX], count = 0;
    char text[16];

    choose_path();
    listener = os_listen_unix(path, 4);
    assert_true(listener >= 0);
    assert_int_equal(os_accept(listener), -EAGAIN);
    client = os_connect_unix(path);
    server = os_accept(listener);
    assert_true(client >= 0 && server >= 0);
    assert_true(os_fd_is_socket(server));
    assert_int_equal(os_receive(server, text, sizeof(text), fds, &count), -EAGAIN);
    assert_int_equal(send_text(client, "hello", NULL, 0), 5);
    assert_int_equal(os_receive(server, text, sizeof(text), fds, &count), 5);
    assert_int_equal(os_socket_shutdown(client), 0);
    assert_int_equal(os_receive(server, text, sizeof(text), fds, &count), 0);
    assert_int_equal(send_text(client, "x", NULL, 0), -EPIPE); /* and no SIGPIPE */
    os_close_now(client);
    os_close_now(server);
    os_close_now(listener);
    assert_int_equal(os_unlink(path), 0);
}

static void stale_file_is_replaced_living_one_is_not(void **state)
{
    int first, second;

    choose_path();
    first = os_listen_unix(path, 4);
    assert_int_equal(os_listen_unix(path, 4), -EADDRINUSE);
    os_close_now(first); /* leaves the file behind */
    assert_int_equal(os_connect_unix(path), -ECONNREFUSED);
    second = os_listen_unix(path, 4);
    assert_true(second >= 0);
    os_close_now(second);
    os_unlink(path);
}

static void other_files_are_left_alone(void **state)
{
    int fd;

    choose_path();
    fd = os_open(path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(os_listen_unix(path, 4), -EADDRINUSE);
    assert_int_equal(os_close(fd), 0);
    assert_int_equal(os_unlink(path), 0); /* still there */
}

/* Its backlog is full, so it does not even take the connection that asks whether it lives. */
static void busy_listener_is_alive(void **state)
{
    int first, clients[2];

    choose_path();
    first = os_listen_unix(path, 0); /* a backlog of 0 holds one */
    clients[0] = os_connect_unix(path);
    assert_true(clients[0] >= 0);
    assert_int_equal(os_listen_unix(path, 4), -EADDRINUSE);
    clients[1] = os_accept(first);
    assert_true(clients[1] >= 0);
    os_close_now(clients[0]);
    os_close_now(clients[1]);
    clients[0] = os_connect_unix(path); /* still there */
    assert_true(clients[0] >= 0);
    os_close_now(clients[0]);
    os_close_now(first);
    os_unlink(path);
}

static void long_names(void **state)
{
    char name[200];

    memset(name, 'a', sizeof(name) - 1);
    memcpy(name, "/tmp/", 5);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(os_listen_unix(name, 1), -ENAMETOOLONG);
    assert_int_equal(os_connect_unix(name), -ENAMETOOLONG);
    name[108] = '\0';
    assert_int_equal(os_connect_unix(name), -ENAMETOOLONG);
    name[107] = '\0';
    assert_int_equal(os_connect_unix(name), -ENOENT);
}

/* Sends @count descriptors and returns how many os_receive() said, having closed those it gave. */
static int pass_descriptors(int count)
{
    int pair[2], fds[256], got[OS_SOCKET_FDS_MAX], got_count = 0;
    char text[8];

    assert_int_equal(os_socketpair(pair), 0);
    for (int i = 0; i < count; i++) {
        fds[i] = os_eventfd();
    }
    assert_int_equal(send_text(pair[0], "fds", fds, count), 3);
    for (int i = 0; i < count; i++) {
        os_close_now(fds[i]);
    }
    assert_int_equal(os_receive(pair[1], text, sizeof(text), got, &got_count), 3);
    for (int i = 0; i < got_count && i < OS_SOCKET_FDS_MAX; i++) {
        assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
        os_close_now(got[i]);
    }
    os_close_now(pair[0]);
    os_close_now(pair[1]);
    return got_count;
}

static void too_many_descriptors_do_not_leak(void **state)
{
    static const int counts[] = {0, 1, OS_SOCKET_FDS_MAX, OS_SOCKET_FDS_MAX + 1, 253};
    unsigned before = os_fd_count();

    for (size_t i = 0; i < countof(counts); i++) {
        assert_int_equal(pass_descriptors(counts[i]), counts[i]);
        assert_int_equal(os_fd_count(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection),
        cmocka_unit_test(stale_file_is_replaced_living_one_is_not),
        cmocka_unit_test(other_files_are_left_alone),
        cmocka_unit_test(busy_listener_is_alive),
        cmocka_unit_test(long_names),
        cmocka_unit_test(too_many_descriptors_do_not_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
