/*
 * log.h -- what the daemon says to its operator, and trace points.
 *
 * A log line is a sentence for a person; it names the object first. A trace point is a name with a
 * few values for whoever debugs; off it costs one load and a branch that is never taken. Names are
 * "layer_event" and are matched by `-T PATTERN`. Any thread.
 */
#pragma once
#include "base/macros.h"
#include "base/ctx.h"

CTX_ANY_BEGIN

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_MAX_ };

printf_like(2, 3) void log_line(enum log_level level, const char *format, ...);
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

void log_set_level(enum log_level level); /* the default is LOG_INFO */
int log_level_parse(const char *name, enum log_level *ret_level); /* -EINVAL: no such level */
extern const char *const log_level_names[LOG_LEVEL_MAX_ + 1];     /* NULL-terminated */

/* Where lines go instead of standard error; @line has no newline. NULL: standard error again. */
void log_set_sink(void (*sink)(const char *line, void *opaque), void *opaque);

/* At most @burst lines a minute from one place; what was held back is counted and said once. */
struct log_limit {
    uint64_t window_start_ns;
    unsigned in_window;
    unsigned held_back;
};
/* May a line be written now? *@ret_held_back: lines suppressed since the last one written. Home of
 * @limit. */
bool log_limit_allows(struct log_limit *limit, unsigned burst, uint64_t now_ns,
                      unsigned *ret_held_back);

struct trace_point {
    const char *name;
    bool on;
};

/* TRACE(hba_request, "tag %" PRIu64 " lun %u", tag, lun); */
#define TRACE(point, ...)                                                                          \
    do {                                                                                           \
        static struct trace_point trace_##point                                                    \
            __attribute__((section("trace_points"), used)) = {.name = #point};                     \
        if (unlikely(__atomic_load_n(&trace_##point.on, __ATOMIC_RELAXED))) {                      \
            trace_line(&trace_##point, __VA_ARGS__);                                               \
        }                                                                                          \
    } while (0)
printf_like(2, 3) void trace_line(const struct trace_point *point, const char *format, ...);

/* Switch on every trace point that matches the glob; the number of points found. */
unsigned trace_enable(const char *pattern);
void trace_list(void (*each)(const char *name, void *opaque), void *opaque);

CTX_ANY_END
