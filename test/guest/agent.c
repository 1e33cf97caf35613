/*
 * agent.c -- the far end of a test's control channel, inside the guest.
 *
 * One virtio-serial port carries frames both ways: a line "KIND ID LENGTH\n" and LENGTH bytes. from
 *   the test   run: a shell script       signal: a number, for that job's process group to the test
 *   output, exit: of a job    event: a kernel uevent (NUL-separated) log: a kernel log line
 *   ready: modules are loaded Nothing is polled: the uevent socket is open before the first module
 *   is loaded, so a test sees every disk that comes or goes, also those found at boot.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS_MAX = 64, FRAME_BYTES_MAX = 1 << 20, EVENT_BUFFER_BYTES = 4 << 20 };

struct job {
    unsigned id;
    pid_t pid; /* 0: slot is free */
    int output;
};

static struct job jobs[JOBS_MAX];
static int port, events, signals, kmsg;

static void die(const char *what)
{
    fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
    sleep(1);
    exit(1); /* process 1 ends: the kernel panics, QEMU exits, the test sees it */
}

static void write_all(const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t done = write(port, at, bytes);
        if (done < 0 && errno != EINTR && errno != EAGAIN) {
            die("write to the port");
        }
        if (done > 0) {
            at += done;
            bytes -= (size_t)done;
        }
    }
}

static void send_frame(const char *kind, unsigned id, const void *data, size_t bytes)
{
    char header[64];
    write_all(header, (size_t)snprintf(header, sizeof(header), "%s %u %zu\n", kind, id, bytes));
    write_all(data, bytes);
}

static void read_all(void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t got = read(port, at, bytes);
        if (got < 0 && errno != EINTR) {
            die("read from the port");
        }
        if (got > 0) {
            at += got;
            bytes -= (size_t)got;
        } else if (got == 0) {
            usleep(10000); /* the host's end is closed; it may come back */
        }
    }
}

static void job_start(unsigned id, const char *script)
{
    struct job *job = jobs;
    while (job < jobs + JOBS_MAX && job->pid != 0) {
        job++;
    }
    int ends[2];
    if (job == jobs + JOBS_MAX || pipe2(ends, O_CLOEXEC) < 0) {
        send_frame("exit", id, "126", 3);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *job = (struct job){.id = id, .pid = pid, .output = ends[0]};
}

static bool job_forward(struct job *job)
{
    char buffer[16 << 10];
    ssize_t got = read(job->output, buffer, sizeof(buffer));
    if (got > 0) {
        send_frame("output", job->id, buffer, (size_t)got);
    }
    return got > 0;
}

static void job_signal(unsigned id, int number)
{
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        if (jobs[i].pid != 0 && jobs[i].id == id) {
            kill(-jobs[i].pid, number);
        }
    }
}

static void reap(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (unsigned i = 0; i < JOBS_MAX; i++) {
            if (jobs[i].pid != pid) {
                continue;
            }
            while (job_forward(&jobs[i])) {
            }
            char text[16];
            int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            send_frame("exit", jobs[i].id, text, (size_t)snprintf(text, sizeof(text), "%d", code));
            close(jobs[i].output);
            jobs[i] = (struct job){0};
        }
    }
}

static void handle_request(void)
{
    static char body[FRAME_BYTES_MAX + 1];
    char header[64], kind[16];
    size_t length = 0, used = 0;
    unsigned id;
    do {
        read_all(&header[used], 1);
    } while (header[used++] != '\n' && used < sizeof(header) - 1);
    header[used] = 0;
    if (sscanf(header, "%15s %u %zu", kind, &id, &length) != 3 || length > FRAME_BYTES_MAX) {
        errno = EPROTO;
        die("request");
    }
    read_all(body, length);
    body[length] = 0;
    if (strcmp(kind, "run") == 0) {
        job_start(id, body);
    } else if (strcmp(kind, "signal") == 0) {
        job_signal(id, (int)strtol(body, NULL, 10));
    }
}

static void open_port(void)
{
    char path[300] = "";
    for (int tries = 0; path[0] == 0 && tries < 500; tries++) {
        DIR *dir = opendir("/sys/class/virtio-ports");
        for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
            if (entry->d_name[0] != '.') {
                snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
        if (path[0] == 0) {
            usleep(10000);
        }
    }
    port = open(path, O_RDWR | O_CLOEXEC);
    if (port < 0) {
        die("virtio-serial port");
    }
}

static void open_sources(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int bytes = EVENT_BUFFER_BYTES;
    events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    if (events < 0 || setsockopt(events, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
        bind(events, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("uevent socket");
    }
    kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signals = signalfd(-1, &child, SFD_CLOEXEC);
    if (kmsg < 0 || signals < 0) {
        die("kmsg, signalfd");
    }
}

static void forward(int fd, const char *kind)
{
    char buffer[8192];
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got > 0) {
        send_frame(kind, 0, buffer, (size_t)got);
    } else if (got < 0 && errno == ENOBUFS) {
        send_frame("event", 0, "ACTION=lost", 11);
    }
}

static void serve(void)
{
    struct pollfd polled[4 + JOBS_MAX];
    polled[0] = (struct pollfd){.fd = port, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = events, .events = POLLIN};
    polled[2] = (struct pollfd){.fd = kmsg, .events = POLLIN};
    polled[3] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        polled[4 + i] =
            (struct pollfd){.fd = jobs[i].pid != 0 ? jobs[i].output : -1, .events = POLLIN};
    }
    poll(polled, 4 + JOBS_MAX, -1);
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        /* A job that closed its output but runs on is left alone until it is reaped. */
        if (polled[4 + i].revents != 0 && !job_forward(&jobs[i])) {
            close(jobs[i].output);
            jobs[i].output = -1;
        }
    }
    if (polled[1].revents & (POLLIN | POLLERR)) {
        forward(events, "event");
    }
    if (polled[2].revents & POLLIN) {
        forward(kmsg, "log");
    }
    if (polled[3].revents & POLLIN) {
        struct signalfd_siginfo info;
        if (read(signals, &info, sizeof(info)) == sizeof(info)) {
            reap();
        }
    }
    if (polled[0].revents & POLLIN) {
        handle_request();
    }
}

int main(void)
{
    open_sources();
    int status = system("cd /mods && for m in $(cat order); do insmod $m || echo bad $m; done");
    if (status != 0) {
        fprintf(stderr, "agent: loading modules: %d\n", status);
    }
    open_port();
    send_frame("ready", 0, "", 0);
    for (;;) {
        serve();
    }
}
