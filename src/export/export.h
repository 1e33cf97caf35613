/*
 * export.h -- front doors: the table of export types and the exports there are.
 */
#pragma once
#include "base/event.h"
#include "base/opt.h"
#include "loop/loop.h"

struct export; /* one export; the type's own struct embeds it: export_int.h */

/* What every export has; a type's options struct begins with this. */
struct export_options {
    char *type;
    char *id;
    struct opt_strs iothread; /* a name or a list of names */
    bool fixed_iothread;
};
extern const struct opt_table export_options_table;

struct export_type {
    const char *name;                /* "vhost-user-scsi" */
    const struct opt_table *options; /* base: &export_options_table */
    const char *since;
    size_t bytes;                    /* of its struct, which begins with struct export; zeroed */

    /* Open the door. On failure everything is undone; @options stay the caller's. */
    CO_SLOT MAIN_SLOT int (*co_open)(struct export *export, const void *options,
                                     struct err **reterr);
    /* May it be closed without taking something away from somebody? -EBUSY names them. */
    MAIN_SLOT int (*check_unused)(struct export *export, struct err **reterr);
    /* Doors are no longer held: look whether somebody knocks. */
    MAIN_SLOT void (*admit)(struct export *export);
    /* No new connections from here on; the id is not found by others any more. Does not yield. */
    MAIN_SLOT void (*shut)(struct export *export);
    /* Shut already: disconnect, unplug, undo co_open(); returns when all of it is gone. */
    CO_SLOT MAIN_SLOT void (*co_close)(struct export *export);
    MAIN_SLOT void (*describe)(struct export *export, json_t *object);
    MAIN_SLOT void (*describe_requests)(struct export *export, json_t *to_array);
};
MAIN_LOOP
void export_types_set(const struct export_type *const *types, size_t count);
MAIN_LOOP
void export_type_each(void (*each)(const struct export_type *type, void *opaque), void *opaque);
extern const struct export_type vhost_user_scsi_export_type;

/* block-export-add / block-export-del / query-block-exports. @hard: disconnect and unplug what is
 * there; otherwise -EBUSY names it. BLOCK_EXPORT_DELETED follows when all of it is gone; co_delete
 * returns when the export no longer takes connections and its buses cannot be found. */
MAIN_LOOP CO_FN
int export_co_add(json_t *options, unsigned flags, struct err **reterr);
MAIN_LOOP CO_FN
int export_co_delete(const char *id, bool hard, struct err **reterr);
MAIN_LOOP
json_t *export_describe_all(void);
/* While doors are held, exports listen but let nobody in: for start-up, until every option has
 * succeeded. Letting go admits who waits in the backlogs. */
MAIN_LOOP
void export_hold_doors(bool is_held);
MAIN_LOOP
bool export_doors_are_held(void);
/* For query-waits: one object per export that is shutting down. */
MAIN_LOOP
void export_describe_waits(json_t *to_array);
/* For shutdown: delete all hard, in parallel, and wait until gone or @deadline_ns
 * (LOOP_CLOCK_MONOTONIC; 0: none); what did not end is logged, a line per request, and gives
 * -ETIMEDOUT. */
MAIN_LOOP CO_FN
int export_co_delete_all(uint64_t deadline_ns);
extern const struct event_def export_deleted_event; /* BLOCK_EXPORT_DELETED */
