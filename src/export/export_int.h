/* export_int.h -- what export.c keeps of each export. */
#pragma once
#include "base/list.h"
#include "export/export.h"

struct export {
    struct list link;
    const struct export_type *type;
    char *id;
    bool is_open;        /* co_open() has returned */
    bool is_shutting_down;
    uint64_t since_ns;   /* of shutting down; LOOP_CLOCK_REALTIME */
};
