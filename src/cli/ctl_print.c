/* ctl_print.c -- `caisson ctl`: arguments in, readable text out. No I/O here. */
#include "cli/ctl_int.h"
#include "base/err.h"
#include "base/mem.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TABLE_COLUMNS_MAX = 24, COLUMN_GAP = 2 };

/* One value on one line: a string bare, the rest as compact JSON. Free with mem_free(). */
static char *one_line(const json_t *value)
{
    char *dump, *copy;

    if (value == NULL) {
        return mem_strdup("-");
    }
    if (json_is_string(value)) {
        return mem_strdup(json_string_value(value));
    }
    dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    copy = mem_strdup(dump != NULL ? dump : "?");
    mem_free(dump);
    return copy;
}

static bool is_table(const json_t *value)
{
    size_t i;
    json_t *row;

    if (!json_is_array(value) || json_array_size(value) == 0) {
        return false;
    }
    json_array_foreach(value, i, row) {
        if (!json_is_object(row)) {
            return false;
        }
    }
    return true;
}

struct table {
    const char *names[TABLE_COLUMNS_MAX];
    size_t widths[TABLE_COLUMNS_MAX];
    size_t columns;
};

static size_t column_of(struct table *table, const char *name)
{
    for (size_t i = 0; i < table->columns; i++) {
        if (strcmp(table->names[i], name) == 0) {
            return i;
        }
    }
    if (table->columns < TABLE_COLUMNS_MAX) {
        table->names[table->columns] = name;
        table->widths[table->columns] = strlen(name);
        return table->columns++;
    }
    return SIZE_MAX;
}

static void measure(struct table *table, const json_t *rows)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row) {
        const char *name;
        json_t *value;

        json_object_foreach(row, name, value) {
            AUTO_MEM char *text = one_line(value);
            size_t column = column_of(table, name);

            if (column != SIZE_MAX) {
                table->widths[column] = max_of(table->widths[column], strlen(text));
            }
        }
    }
}

static void add_cell(const struct table *table, size_t column, const char *text, struct strbuf *to)
{
    bool is_last = column + 1 == table->columns;

    strbuf_addf(to, "%-*s%s", is_last ? 0 : (int)(table->widths[column] + COLUMN_GAP), text,
                is_last ? "\n" : "");
}

static void format_table(const json_t *rows, struct strbuf *to)
{
    struct table table = {0};
    size_t i;
    json_t *row;

    measure(&table, rows);
    for (size_t column = 0; column < table.columns; column++) {
        add_cell(&table, column, table.names[column], to);
    }
    json_array_foreach(rows, i, row) {
        for (size_t column = 0; column < table.columns; column++) {
            AUTO_MEM char *text = one_line(json_object_get(row, table.names[column]));

            add_cell(&table, column, text, to);
        }
    }
}

static void format_object(const json_t *object, struct strbuf *to)
{
    int width = 0;
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        width = max_of(width, (int)strlen(name));
    }
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        AUTO_MEM char *text = one_line(value);

        strbuf_addf(to, "%s:%*s %s\n", name, width - (int)strlen(name), "", text);
    }
}

void ctl_format_value(const json_t *value, struct strbuf *to)
{
    if (is_table(value)) {
        format_table(value, to);
    } else if (json_is_object(value)) {
        format_object(value, to);
    } else if (json_is_array(value)) {
        size_t i;
        json_t *item;

        json_array_foreach(value, i, item) {
            AUTO_MEM char *text = one_line(item);

            strbuf_addf(to, "%s\n", text);
        }
    } else {
        AUTO_MEM char *text = one_line(value);

        strbuf_addf(to, "%s\n", text);
    }
}

void ctl_format_event(const json_t *event, struct strbuf *to)
{
    const json_t *stamp = json_object_get(event, "timestamp");
    time_t seconds = (time_t)json_integer_value(json_object_get(stamp, "seconds"));
    json_t *data = json_object_get(event, "data");
    struct tm parts;
    char when[32];
    const char *name;
    json_t *value;

    localtime_r(&seconds, &parts);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &parts);
    strbuf_addf(to, "%s.%06" PRIu64 " %s", when,
                (uint64_t)json_integer_value(json_object_get(stamp, "microseconds")),
                json_string_value(json_object_get(event, "event")));
    json_object_foreach(data, name, value) {
        AUTO_MEM char *text = one_line(value);

        strbuf_addf(to, " %s=%s", name, text);
    }
    strbuf_addf(to, "\n");
}

static json_t *value_of(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

    return value != NULL ? value : json_string(text);
}

/* The object that holds the last part of a dotted key, made on the way. */
static json_t *parent_of(json_t *object, char *path, char **ret_last)
{
    char *dot;

    while ((dot = strchr(path, '.')) != NULL) {
        json_t *below;

        *dot = '\0';
        below = json_object_get(object, path);
        if (below == NULL) {
            below = json_object();
            json_object_set_new(object, path, below);
        } else if (!json_is_object(below)) {
            return NULL;
        }
        object = below;
        path = dot + 1;
    }
    *ret_last = path;
    return object;
}

int ctl_parse_argument(const char *text, json_t *arguments, struct err **reterr)
{
    const char *equals = strchr(text, '=');
    AUTO_MEM char *path = mem_strdup(text);
    json_t *parent, *value;
    char *last;

    if (equals == NULL || equals == text) {
        return err_set(reterr, EINVAL, "'%s': an argument is key=value", text);
    }
    path[equals - text] = '\0';
    parent = parent_of(arguments, path, &last);
    if (parent == NULL || *last == '\0' || json_object_get(parent, last) != NULL) {
        return err_set(reterr, EINVAL, "'%.*s' is given twice, or is a value and a group at once",
                       (int)(equals - text), text);
    }
    value = value_of(equals + 1);
    if (value == NULL) {
        return err_set(reterr, EINVAL, "'%.*s': the value is not UTF-8 text", (int)(equals - text),
                       text);
    }
    json_object_set_new(parent, last, value);
    return 0;
}
