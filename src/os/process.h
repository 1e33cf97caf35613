/* process.h -- signals, pid file, daemonizing, resources. */
#pragma once
#include "base/ctx.h"
#include "base/err.h"
#include <sys/types.h>

enum os_signal { OS_SIGHUP = 1, OS_SIGINT = 2, OS_SIGPIPE = 13, OS_SIGTERM = 15 };

/* Block @signals in this thread (and those it starts) and return a descriptor that reads as ready
 * when one is pending; os_signal_next() takes it: its number, 0: none. */
ANY_THREAD
int os_signal_fd(const int *signals, size_t count);
ANY_THREAD
int os_signal_next(int fd);
ANY_THREAD
void os_signal_ignore(int signal);
ANY_THREAD
void os_signal_unblock_all(void);

/* Create, lock and write the pid file; the descriptor holds the lock until exit. */
BLOCKING
int os_pidfile_write(const char *path, struct err **reterr);

/* Fork; the parent waits for os_daemonize_ready() of the child and exits with the status given
 * there (or with 1 when the child dies before). Before any thread or ring exists. Returns in the
 * child. */
BLOCKING
int os_daemonize_begin(struct err **reterr);
BLOCKING
void os_daemonize_ready(int status); /* also detaches from terminal and standard streams */

ANY_THREAD
pid_t os_pid(void);
ANY_THREAD
uint64_t os_process_rss_anon_bytes(void);
ANY_THREAD
void os_raise_fd_limit(void); /* soft to hard */
ANY_THREAD
no_return void os_exit(int status); /* at once, without atexit handlers */
