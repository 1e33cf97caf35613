/* ctl.h -- `caisson ctl`: the control socket for people and scripts. */
#pragma once
#include "base/ctx.h"

enum ctl_exit { CTL_OK = 0, CTL_ERROR_REPLY = 1, CTL_USAGE = 2, CTL_NO_CONNECTION = 3 };

/* @argv[0] is "ctl". The exit status is returned. */
BLOCKING
int cli_ctl_main(int argc, char **argv);
