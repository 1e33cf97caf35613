/*
 * hba_int.h -- inside the virtio-scsi host adapter: queues, their rings, requests, LUNs.
 *
 * A *queue* is one of the adapter's virtqueues for as long as the adapter lives: it has a home. A
 * *ring* is one run of it, from the front end's start to its stop, with the requests taken from it:
 * when a front end dies its rings are abandoned, keep the guest's memory until their last request
 * has come back, and the next front end gets rings of its own at once.
 *
 * (Q1) All rings of a queue have the queue's home, and only the home touches ring, slots and lists.
 * (Q2) queue->home is written on the old home only (hba_queue_co_move); anybody may read it, and
 *      whoever acts on the reading hops until he is at home (hba_queue_co_enter, hba_queue_post).
 * (Q3) A ring is RUNNING, then STOPPING (popped requests are still answered) or ABANDONED (they are
 *      not: the front end is gone); when its last slot is back it leaves the queue.
 * (Q4) A ring's memory is allocated and freed on the main loop, which may therefore look at the
 *      views of its slots (hba_describe_requests) at any time; views are atomic words, exact when
 *      quiet.
 */
#pragma once
#include "block/root.h"
#include "co/lock.h"
#include "device/hba.h"
#include "loop/loop.h"
#include "sync/atomic.h"
#include "virtio/scsi_proto.h"

enum {
    HBA_FIXED_QUEUES = VIRTIO_SCSI_REQUEST_QUEUE_FIRST,
    HBA_REQUEST_QUEUES_MAX = VIRTIO_QUEUES_MAX - HBA_FIXED_QUEUES,
    HBA_EVENTS_MAX = 256,      /* waiting for a buffer; more of them are only counted as missed */
    HBA_CDB_BYTES_MAX = 255,   /* what a driver may set cdb_size to */
    HBA_LUN_NONE = 0xffff,     /* no LUN has this number: flat addressing ends at 0x3fff */
};

struct hba_ring;
struct hba_group;

/* A LUN as the adapter sees it; embedded by the device. Constant while published, but for the
 * links. */
struct hba_lun {
    struct scsi_slot slot;
    struct hba *hba;
    struct blk_root *root;
    uint64_t serial;         /* never used twice: what a request remembers instead of an address */
    struct list hba_link;    /* main loop: hba->luns */
    bool fenced;             /* main loop: hba_fence.c */
    struct co_queue unfenced;
    struct list nexus_link;  /* main loop: a ring of those that are ports of one logical unit */
};

/* What main-loop code may see of a request: relaxed atomics, each whole, together maybe torn. */
struct hba_view {
    uint32_t state;   /* enum hba_request_state */
    uint32_t address; /* target << 16 | lun */
    uint64_t cdb[2];  /* its first 16 bytes */
    uint64_t started_ns;
    uint64_t lun_serial;
};
enum hba_request_state { HBA_REQUEST_FREE, HBA_REQUEST_PARKED, HBA_REQUEST_RUNNING };

/* What a ring holds for one chain. Kinds of queues extend it. */
struct hba_slot {
    struct list link; /* ring->free or ring->busy */
    struct hba_ring *ring;
    struct virtq_elem elem;
    struct iovec *iov;
    struct hba_view view;
};

struct hba_queue_kind {
    const char *name;
    size_t slot_bytes;
    /* There may be something to pop. */
    HOME_SLOT void (*turn)(struct hba_ring *ring);
    /* Is there a use for what may be on the ring? NULL: always. */
    HOME_SLOT bool (*wants)(const struct hba_ring *ring);
    /* The ring stops: answer at once what only waits. */
    HOME_SLOT void (*stopping)(struct hba_ring *ring);
};
extern const struct hba_queue_kind hba_request_kind, hba_control_kind, hba_event_kind;

struct hba_queue {
    struct hba *hba;                    /* constant */
    unsigned index;                     /* constant */
    const struct hba_queue_kind *kind;  /* constant */
    struct loop *home;                  /* atomic, (Q2) */
    struct hba_ring *ring;              /* home: the one that runs or stops; NULL: none */
    struct list rings;                  /* home: it and the abandoned ones */
};

enum hba_ring_state { HBA_RING_RUNNING, HBA_RING_STOPPING, HBA_RING_ABANDONED };

struct hba_ring {
    /* constant */
    struct hba_queue *queue;
    struct virtq *vq;
    unsigned slot_count;
    char *slots; /* slot_count times kind->slot_bytes; memory nobody has used yet is not touched */
    struct iovec *iovs;
    uint32_t sense_bytes, cdb_bytes;
    int kick_fd;
    /* main loop */
    struct list hba_link; /* hba->rings */
    /* home */
    struct list link; /* queue->rings */
    enum hba_ring_state state;
    bool enabled, broken;
    bool attached;     /* watch and timer live on the home's loop; not while moving */
    bool settling;     /* (Q3) waits until all that only waits has been answered */
    unsigned spurious; /* readings of the kick descriptor in a row that found nothing */
    int call_fd, err_fd;
    struct list free, busy, parked;
    unsigned slots_used;         /* atomic; those above have never been taken */
    unsigned parked_count;
    struct loop_watch kick;
    struct loop_timer poll_timer; /* without a kick descriptor */
    struct loop_defer flush;
    struct bh *more;
    uint64_t now_ns; /* of this turn */
    struct co_wait *stopper;
};

struct hba_event {
    struct list link;
    uint32_t event, reason;
    uint8_t target;
    uint16_t lun;
};

struct hba {
    char *id;                           /* constant */
    unsigned queue_count;               /* constant: control and event included */
    struct hba_queue *queues;           /* constant */
    const struct virtio_transport_ops *ops;
    void *transport;
    struct scsi_table *table;
    struct list link;                   /* main loop, and so the rest down to the next heading */
    struct list luns, rings;
    struct co_queue ring_gone;
    uint32_t sense_bytes, cdb_bytes;    /* for rings started from now on */
    uint64_t features;                  /* atomic */
    /* event queue's home */
    struct list events;
    unsigned event_count;
    bool events_missed; /* say so with the next one */
    bool events_heard;  /* somebody has listened since the last reset */
};

struct hba_request {
    struct hba_slot slot; /* first */
    struct list park_link;
    struct hba_lun *lun;  /* while parked (without a token) or running */
    uint64_t tag;
    uint8_t target;
    uint16_t lun_number;
    uint8_t cancel_response; /* enum virtio_scsi_response; 0: not cancelled */
    struct list watchers;    /* struct hba_watcher */
    struct scsi_cmd cmd;
    uint8_t cdb[SCSI_CDB_BYTES_MAX];
    struct iovec *cut;       /* the writable piece whose head is the response, or NULL */
    struct iovec cut_saved;
};

/* ---- hba_queue.c ----------------------------------------------------------------------------- */

/* Is the LUN part of @lun_bytes understood? False: no target of ours is meant. A form of LUN that
 * no target has gives HBA_LUN_NONE. virtio 1.3, 5.6.6.1; SAM-5 4.7. */
ANY_THREAD
bool hba_address_parse(const uint8_t *lun_bytes, uint8_t *ret_target, uint16_t *ret_lun);
ANY_THREAD
void hba_address_format(uint8_t target, uint16_t lun, uint8_t *lun_bytes);

/* Go on at the queue's home, wherever that is by then; it is returned for loop_assert_home(). */
CO_FN
struct loop *hba_queue_co_enter(struct hba_queue *queue);
/* Run @fn at the queue's home, soon; posts to one home run in order. */
typedef void hba_queue_fn(struct hba_queue *queue, void *opaque); /* label it HOME_LOOP */
ANY_THREAD
void hba_queue_post(struct hba_queue *queue, hba_queue_fn *fn, void *opaque);
/* The same on every queue of @hba, and wait until all have run: (H3). Every home has then left what
 * it was doing when this began, so it is a grace period for whatever does not yield. */
MAIN_LOOP CO_FN
void hba_co_round(struct hba *hba, hba_queue_fn *fn, void *opaque);
/* Move a queue, ring, requests and all, to another loop. Not twice at a time for one queue. */
MAIN_LOOP CO_FN
void hba_queue_co_move(struct hba_queue *queue, struct loop *to);

/* Take a chain off the ring. NULL: nothing there, or not to be taken now. */
HOME_LOOP
struct hba_slot *hba_ring_pop(struct hba_ring *ring);
/* Budget used up and more to do: go to the end of the line. */
HOME_LOOP
void hba_ring_again(struct hba_ring *ring);
/* Answer: @written bytes of the writable part are filled. @slot is free afterwards; a ring that was
 * abandoned may be gone, for the main loop frees it as soon as its last slot is back. */
HOME_LOOP
void hba_slot_complete(struct hba_slot *slot, uint32_t written);
/* Let the guest see now what was completed. */
HOME_LOOP
void hba_ring_flush(struct hba_ring *ring);
printf_like(2, 3) HOME_LOOP
void hba_ring_break(struct hba_ring *ring, const char *format, ...);
HOME_LOOP
bool hba_ring_may_pop(const struct hba_ring *ring);
/* Put back what hba_ring_pop() returned last. */
HOME_LOOP
void hba_slot_unpop(struct hba_slot *slot);
/* A chain begins to be worked on, or waits: what people are shown of it. */
HOME_LOOP
void hba_slot_show(struct hba_slot *slot, enum hba_request_state state, uint8_t target,
                   uint16_t lun, const uint8_t *cdb, uint64_t lun_serial);

MAIN_LOOP CO_FN
int hba_queue_co_start(struct hba_queue *queue, const struct virtio_queue_setup *setup,
                       struct guest_memory *memory, struct err **reterr);
/* -ECANCELED: abandoned meanwhile. -ENOENT: not running. */
MAIN_LOOP CO_FN
int hba_queue_co_stop(struct hba_queue *queue, uint32_t *ret_base);
MAIN_LOOP CO_FN
void hba_queue_co_abandon(struct hba_queue *queue);

/* ---- hba_request.c --------------------------------------------------------------------------- */

/* Complete @request with @response (and, for VIRTIO_SCSI_S_OK, what its cmd says). */
HOME_LOOP
void hba_request_complete(struct hba_request *request, uint8_t response);
HOME_LOOP
void hba_request_complete_sense(struct hba_request *request, struct scsi_sense sense);
/* Run it; the caller has raised a token for it. */
HOME_LOOP
void hba_request_start(struct hba_request *request) RELEASES_SHARED(graph);
/* Run it, under a token of the same root that the caller holds. */
HOME_LOOP
void hba_request_start_under(struct hba_request *request);

/* ---- hba_park.c ------------------------------------------------------------------------------ */

HOME_LOOP
bool hba_ring_has_parked(const struct hba_ring *ring, const struct hba_lun *lun);
HOME_LOOP
void hba_request_park(struct hba_request *request);
/* Off the list; the caller completes or starts it. */
HOME_LOOP
void hba_request_unpark(struct hba_request *request);

/* ---- hba_tmf.c ------------------------------------------------------------------------------- */

/* One who waits until several things have happened, on whichever loops. */
struct hba_group {
    uint32_t pending; /* atomic */
    uint32_t found;   /* atomic */
    struct co_wait wait;
};
struct hba_watcher {
    struct list link; /* request->watchers */
    struct hba_group *group;
};
ANY_THREAD
void hba_group_done(struct hba_group *group);

/* ---- hba_event.c ----------------------------------------------------------------------------- */

/* Queue an event for the guest; waits for a buffer if need be. */
ANY_THREAD
void hba_event_send(struct hba *hba, uint32_t event, uint8_t target, uint16_t lun, uint32_t reason);
/* The nexus begins anew: forget what waits. */
HOME_LOOP
void hba_events_forget(struct hba *hba);

/* ---- hba_fence.c ----------------------------------------------------------------------------- */

/* A session has ended and its rings are let go. Until the requests it left in flight are back, a
 * LUN's next ones are parked. */
MAIN_LOOP
void hba_fence_former_requests(struct hba *hba);
MAIN_LOOP CO_FN
void hba_lun_co_wait_unfenced(struct hba_lun *lun); /* before the LUN is taken apart */

/* ---- for the devices: hba.c, hba_park.c ------------------------------------------------------ */

MAIN_LOOP
void hba_lun_init(struct hba_lun *lun, struct hba *hba, struct blk_root *root,
                  struct scsi_port *port, uint8_t target, uint16_t number);
/* From here on requests find it. -EBUSY: the address is taken; -ENODEV: the adapter is going. */
MAIN_LOOP
int hba_lun_publish(struct hba_lun *lun);
/* Tell the guest that @lun has come: event, and unit attention on the target's other LUNs. */
MAIN_LOOP
void hba_lun_announce(struct hba_lun *lun);
MAIN_LOOP
void hba_lun_unpublish(struct hba_lun *lun);
/* Unpublished: a round over the homes; parked requests are answered with sense. Afterwards none is
 * parked on it and none will be, and no home looks at it but under a token. */
MAIN_LOOP CO_FN
void hba_lun_co_purge(struct hba_lun *lun);
MAIN_LOOP
void hba_lun_announce_gone(struct hba *hba, uint8_t target, uint16_t number);
/* blk_root_ops.restart and .resized */
MAIN_LOOP
void hba_lun_restart(struct hba_lun *lun);
MAIN_LOOP
void hba_lun_resized(struct hba_lun *lun);
/* Requests of @lun (NULL: of the whole adapter) as text, one each. */
MAIN_LOOP
void hba_describe_requests_of(struct hba *hba, const struct hba_lun *lun, json_t *to_array);
