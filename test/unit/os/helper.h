/* helper.h -- cmocka with what it needs before it, and "this must abort". */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#define HELPER_HAS_FEATURE_(x) __has_feature(x)
#else
#define HELPER_HAS_FEATURE_(x) 0
#endif

/* Runs @fn in a child, which must die of @signal_number. (AddressSanitizer has handlers of its own,
 * which report and exit.) */
static inline bool dies_of(int signal_number, void (*fn)(void))
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        int null_fd = open("/dev/null", O_WRONLY);

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(null_fd, 2);
        signal(SIGABRT, SIG_DFL); /* cmocka's own would return to the test */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        fn();
        _exit(0);
    }
    waitpid(child, &status, 0);
#if defined(__SANITIZE_ADDRESS__) || HELPER_HAS_FEATURE_(address_sanitizer) ||                     \
    HELPER_HAS_FEATURE_(thread_sanitizer) || defined(__SANITIZE_THREAD__)
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return true;
    }
#endif
    return WIFSIGNALED(status) && WTERMSIG(status) == signal_number;
}
