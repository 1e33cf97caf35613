/*
 * drain.h -- drained sections: bring what is above a node to rest, and let it go again.
 *
 * (D1) A node is drained exactly when every root above it is gated and has no token.
 * (D2) Sections are counted per node, nest in any order and across owners; only the main loop
 *      counts.
 * (D3) An edge made meanwhile inherits its lower end's sections.
 * (D4) A section's end restarts each parked request once.
 */
#pragma once
#include "block/root.h"

struct blk_section; /* one owner's drained section of one node */

/* Gate every root above @node and wait until no token is out. @owner: "device_del 'disk0'", for
 * query-waits; copied. 0, or -ETIMEDOUT with everything as before and a text that names what did
 * not end. @deadline_ns: LOOP_CLOCK_MONOTONIC; 0: wait for ever. The section holds a reference on
 * @node. */
MAIN_LOOP CO_FN
int blk_section_co_begin(struct blk_node *node, const char *owner, uint64_t deadline_ns,
                         struct blk_section **ret_section, struct err **reterr);
MAIN_LOOP
void blk_section_end(struct blk_section *section);

/* Gate one root alone (a device going away). Counted, like sections. */
MAIN_LOOP
void blk_root_gate_close(struct blk_root *root);
MAIN_LOOP CO_FN
void blk_root_co_wait_idle(struct blk_root *root); /* gate closed: until no token is out */
MAIN_LOOP
void blk_root_gate_open(struct blk_root *root);

/* For query-waits: one object per section or root that still waits: {kind: "drain" | "root-idle",
 * owner, node-name, since (seconds since the epoch), waits-for: [{user, requests}]}. */
MAIN_LOOP
void blk_sections_describe(json_t *to_array);
