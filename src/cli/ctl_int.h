/* ctl_int.h -- between ctl.c and ctl_print.c. */
#pragma once
#include "base/str.h"
#include <jansson.h>

/* A reply's value as a person wants it: a list of objects is a table, an object "name: value"
 * lines, nothing for {}. */
ANY_THREAD
void ctl_format_value(const json_t *value, struct strbuf *to);

/* "2026-11-22 03:20:01.123456 DEVICE_DELETED device=disk0 path=/machine/…" */
ANY_THREAD
void ctl_format_event(const json_t *event, struct strbuf *to);

/* "key=value" and "a.b.c=value" into @arguments. What reads as JSON (a number, true, false, null, a
 * quoted string, a list, an object) is that; anything else is a string. -EINVAL with a text. */
struct err;
ANY_THREAD
int ctl_parse_argument(const char *text, json_t *arguments, struct err **reterr);
