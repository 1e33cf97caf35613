/*
 * process.c -- signals, pid file, daemonizing, resources.
 */
#include "os/process.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static_assert(OS_SIGHUP == SIGHUP && OS_SIGINT == SIGINT, "the kernel's numbers");
static_assert(OS_SIGPIPE == SIGPIPE && OS_SIGTERM == SIGTERM, "the kernel's numbers");

int os_signal_fd(const int *signals, size_t count)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) {
        sigaddset(&set, signals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int os_signal_next(int fd)
{
    struct signalfd_siginfo info;

    return read(fd, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

void os_signal_ignore(int signal_number)
{
    signal(signal_number, SIG_IGN);
}

void os_signal_unblock_all(void)
{
    sigset_t none;

    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* ---- pid file ---- */

static int lock_whole(int fd, pid_t *ret_holder)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char text[32] = "";

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno != EAGAIN && errno != EACCES) {
        return -errno;
    }
    *ret_holder = 0; /* the kernel does not say whose an OFD lock is; the file's text does */
    if (pread(fd, text, sizeof(text) - 1, 0) > 0) {
        sscanf(text, "%d", ret_holder);
    }
    return -EAGAIN;
}

/* Is @fd still the file at @path? Its former owner may have removed it before we got the lock. */
static bool is_same_file(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

/* The locked pid file. */
static int open_locked(const char *path, struct err **reterr)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), rc;
        pid_t holder = 0;

        if (fd < 0) {
            return err_set_errno(reterr, errno, "pid file '%s': cannot be opened", path);
        }
        rc = lock_whole(fd, &holder);
        if (rc == 0 && is_same_file(fd, path)) {
            return fd;
        }
        close(fd);
        if (rc == -EAGAIN) {
            return err_set(reterr, EAGAIN, "pid file '%s': is locked by process %d", path, holder);
        }
        if (rc < 0) {
            return err_set_errno(reterr, -rc, "pid file '%s': cannot be locked", path);
        }
    }
}

int os_pidfile_write(const char *path, struct err **reterr)
{
    int fd = open_locked(path, reterr), length;
    char text[32];

    if (fd < 0) {
        return fd;
    }
    length = snprintf(text, sizeof(text), "%d\n", getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        int rc = err_set_errno(reterr, errno ? errno : EIO, "pid file '%s': cannot be written",
                               path);

        close(fd);
        return rc;
    }
    return 0; /* the descriptor stays open: it is the lock */
}

/* ---- daemonizing ---- */

static int ready_fd = -1; /* the child's end of the pipe to its waiting parent */

/* The parent: pass on what the child says, or that it died. */
static no_return void wait_for_child(int fd)
{
    unsigned char status;
    ssize_t bytes;

    do {
        bytes = read(fd, &status, 1);
    } while (bytes < 0 && errno == EINTR);
    _exit(bytes == 1 ? status : 1);
}

int os_daemonize_begin(struct err **reterr)
{
    int fds[2];
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set_errno(reterr, errno, "daemonize: no pipe");
    }
    child = fork();
    if (child < 0) {
        int rc = err_set_errno(reterr, errno, "daemonize: cannot fork");

        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    if (child > 0) {
        close(fds[1]);
        wait_for_child(fds[0]);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();
    return 0;
}

static void detach_streams(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null_fd < 0) {
        return;
    }
    for (int fd = 0; fd <= 2; fd++) {
        dup2(null_fd, fd);
    }
    if (null_fd > 2) {
        close(null_fd);
    }
}

void os_daemonize_ready(int status)
{
    unsigned char byte = (unsigned char)status;
    ssize_t bytes;

    if (ready_fd < 0) {
        return;
    }
    if (chdir("/") == 0) { /* keep no file system busy; it cannot fail */
        detach_streams();
    }
    do {
        bytes = write(ready_fd, &byte, 1);
    } while (bytes < 0 && errno == EINTR);
    close(ready_fd);
    ready_fd = -1;
}

/* ---- resources ---- */

pid_t os_pid(void)
{
    return getpid();
}

uint64_t os_process_rss_anon_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    unsigned long kib = 0;

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "RssAnon: %lu kB", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    return (uint64_t)kib << 10;
}

void os_raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit); /* refused: the limit stays */
    }
}

void os_exit(int status)
{
    _exit(status);
}
