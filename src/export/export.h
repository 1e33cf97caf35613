/*
 * export.h -- front doors: the table of export types and the exports there are.
 */
#pragma once
#include "base/event.h"
#include "base/opt.h"
#include "loop/loop.h"

struct export; /* one export; the type's own struct embeds it: export_int.h */

/* An export type: "vhost-user-scsi". Its options struct begins with struct export_options. */
struct export_options {
    char *id;
    int type;
    json_t *iothread; /* name or list of names */
};
struct export_type {
    const char *name;
    const struct opt_table *options;
    const char *since;
    CO_SLOT MAIN_SLOT int (*co_new)(const void *options, struct export **ret_export, struct err **reterr);
};
MAIN_LOOP
void export_types_set(const struct export_type *const *types, size_t count);
MAIN_LOOP
void export_type_each(void (*each)(const struct export_type *type, void *opaque), void *opaque);

/* block-export-add / block-export-del / query-block-exports. @hard: disconnect and unplug what is there;
 * otherwise -EBUSY names it. BLOCK_EXPORT_DELETED follows when all of it is gone; co_delete returns
 * when the export no longer takes connections and cannot be found. */
MAIN_LOOP CO_FN
int export_co_add(json_t *options, unsigned flags, struct err **reterr);
MAIN_LOOP CO_FN
int export_co_delete(const char *id, bool hard, struct err **reterr);
MAIN_LOOP
json_t *export_describe_all(void);
/* For shutdown: delete all hard, in parallel, and wait until gone or @deadline_ns; what did not end is
 * logged, a line per request. */
MAIN_LOOP CO_FN
int export_co_delete_all(uint64_t deadline_ns);
extern const struct event_def export_deleted_event; /* BLOCK_EXPORT_DELETED */
