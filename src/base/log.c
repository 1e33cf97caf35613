#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const uint64_t log_window_ns = 60ULL * 1000 * 1000 * 1000;

const char *const log_level_names[LOG_LEVEL_MAX_ + 1] = {"error", "warn", "info", "debug", NULL};

static enum log_level level_max = LOG_INFO; /* set at start-up */
ANY_SLOT
static void (*line_sink)(const char *line, void *opaque);
static void *line_sink_opaque;

/* The linker brackets the section; both symbols are absent when there is no trace point at all. */
extern struct trace_point __start_trace_points[] __attribute__((weak));
extern struct trace_point __stop_trace_points[] __attribute__((weak));

static void put_line(const char *line)
{
    if (line_sink != NULL) {
        line_sink(line, line_sink_opaque);
    } else {
        fprintf(stderr, "%s\n", line);
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    AUTO_MEM char *text = NULL;
    AUTO_MEM char *line = NULL;
    va_list args;

    if (level > level_max) {
        return;
    }
    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    line = str_format("caisson: %s: %s", log_level_names[level], text);
    put_line(line);
}

void log_set_level(enum log_level level)
{
    level_max = level;
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (int i = 0; i < LOG_LEVEL_MAX_; i++) {
        if (strcmp(name, log_level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

void log_set_sink(void (*sink)(const char *line, void *opaque), void *opaque)
{
    line_sink = sink;
    line_sink_opaque = opaque;
}

bool log_limit_allows(struct log_limit *limit, unsigned burst, uint64_t now_ns,
                      unsigned *ret_held_back)
{
    if (limit->window_start_ns == 0 || now_ns - limit->window_start_ns >= log_window_ns) {
        limit->window_start_ns = max_of(now_ns, (uint64_t)1);
        limit->in_window = 0;
    }
    if (limit->in_window >= burst) {
        limit->held_back++;
        return false;
    }
    limit->in_window++;
    *ret_held_back = limit->held_back;
    limit->held_back = 0;
    return true;
}

void trace_line(const struct trace_point *point, const char *format, ...)
{
    AUTO_MEM char *text = NULL;
    AUTO_MEM char *line = NULL;
    va_list args;

    va_start(args, format);
    text = str_vformat(format, args);
    va_end(args);
    line = str_format("%s %s", point->name, text);
    put_line(line);
}

unsigned trace_enable(const char *pattern)
{
    unsigned found = 0;

    for (struct trace_point *p = __start_trace_points; p < __stop_trace_points; p++) {
        if (str_matches_glob(p->name, pattern)) {
            __atomic_store_n(&p->on, true, __ATOMIC_RELAXED);
            found++;
        }
    }
    return found;
}

void trace_list(void (*each)(const char *name, void *opaque), void *opaque)
{
    for (struct trace_point *p = __start_trace_points; p < __stop_trace_points; p++) {
        each(p->name, opaque);
    }
}
