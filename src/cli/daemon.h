/* daemon.h -- `caisson daemon`. */
#pragma once
#include "base/ctx.h"

enum daemon_exit { DAEMON_OK = 0, DAEMON_FAILED = 1 };

/* @argv[0] is "daemon". Runs until it is told to quit; the exit status is returned. May be called
 * again afterwards: nothing is left behind. */
BLOCKING
int cli_daemon_main(int argc, char **argv);
