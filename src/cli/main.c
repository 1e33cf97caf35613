/* main.c -- `caisson`: which part of it is wanted. */
#include "base/macros.h"
#include "base/str.h"
#include "cli/bench.h"
#include "cli/ctl.h"
#include "cli/daemon.h"
#include "cli/daemon_int.h"
#include <stdio.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static const struct {
    const char *name, *help;
    BLOCKING_SLOT int (*run)(int argc, char **argv);
} parts[] = {
    {"daemon", "serve virtual disks", cli_daemon_main},
    {"ctl", "one command over the control socket of a daemon", cli_ctl_main},
    {"bench", "measure a vhost-user back end, of any make", cli_bench_main},
};

static void print_usage(FILE *to)
{
    fprintf(to, "usage: caisson COMMAND [ARGUMENT]…\n\n");
    for (size_t i = 0; i < countof(parts); i++) {
        fprintf(to, "  %-10s %s\n", parts[i].name, parts[i].help);
    }
    fprintf(to, "\n  --version  print the version and exit\n"
                "  --help     print this help and exit; `caisson COMMAND --help` tells more\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < countof(parts); i++) {
        if (strcmp(name, parts[i].name) == 0) {
            return parts[i].run(argc - 1, argv + 1);
        }
    }
    if (str_equal(name, "--version") || str_equal(name, "-V")) {
        printf("caisson %s\n", CAISSON_VERSION);
        return 0;
    }
    if (str_equal(name, "--help") || str_equal(name, "-h")) {
        print_usage(stdout);
        return 0;
    }
    if (name[0] != '\0') {
        fprintf(stderr, "caisson: unknown command '%s'\n\n", name);
    }
    print_usage(stderr);
    return EXIT_USAGE;
}
