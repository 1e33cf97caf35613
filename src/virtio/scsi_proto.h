/*
 * scsi_proto.h -- what lies in guest memory and config space of a SCSI host device (virtio 1.3,
 * 5.6). All fields little-endian; read and written with base/bytes.h.
 */
#pragma once
#include "base/macros.h"

enum virtio_scsi_queue { /* 5.6.2 */
    VIRTIO_SCSI_CONTROL_QUEUE = 0,
    VIRTIO_SCSI_EVENT_QUEUE = 1,
    VIRTIO_SCSI_REQUEST_QUEUE_FIRST = 2,
};

enum virtio_scsi_feature { /* 5.6.3, bit numbers */
    VIRTIO_SCSI_F_INOUT = 0,
    VIRTIO_SCSI_F_HOTPLUG = 1,
    VIRTIO_SCSI_F_CHANGE = 2,
    VIRTIO_SCSI_F_T10_PI = 3,
};

enum {
    VIRTIO_SCSI_CDB_BYTES = 32,   /* 5.6.4: the default, restored by a reset */
    VIRTIO_SCSI_SENSE_BYTES = 96, /* likewise */
    VIRTIO_SCSI_SENSE_BYTES_MAX = 252, /* SPC: additional sense length is at most 244 */
    VIRTIO_SCSI_TARGETS_MAX = 256,
    VIRTIO_SCSI_LUNS_MAX = 16384,
    VIRTIO_SCSI_LUN_BYTES = 8,
};

struct virtio_scsi_config { /* 5.6.4 */
    uint32_t num_queues;
    uint32_t seg_max;
    uint32_t max_sectors;
    uint32_t cmd_per_lun;
    uint32_t event_info_size;
    uint32_t sense_size;
    uint32_t cdb_size;
    uint16_t max_channel;
    uint16_t max_target;
    uint32_t max_lun;
};
static_assert(offsetof(struct virtio_scsi_config, cmd_per_lun) == 12, "5.6.4");
static_assert(offsetof(struct virtio_scsi_config, sense_size) == 20, "5.6.4");
static_assert(offsetof(struct virtio_scsi_config, cdb_size) == 24, "5.6.4");
static_assert(offsetof(struct virtio_scsi_config, max_channel) == 28, "5.6.4");
static_assert(offsetof(struct virtio_scsi_config, max_lun) == 32, "5.6.4");
static_assert(sizeof(struct virtio_scsi_config) == 36, "5.6.4");

/* 5.6.6.1: the readable part of a command with the default CDB size; data-out follows. */
struct virtio_scsi_cmd_req {
    uint8_t lun[VIRTIO_SCSI_LUN_BYTES];
    uint8_t id[8];
    uint8_t task_attr;
    uint8_t prio;
    uint8_t crn;
    uint8_t cdb[VIRTIO_SCSI_CDB_BYTES];
};
static_assert(offsetof(struct virtio_scsi_cmd_req, id) == 8, "5.6.6.1");
static_assert(offsetof(struct virtio_scsi_cmd_req, task_attr) == 16, "5.6.6.1");
static_assert(offsetof(struct virtio_scsi_cmd_req, cdb) == 19, "5.6.6.1");
static_assert(sizeof(struct virtio_scsi_cmd_req) == 51, "5.6.6.1");

/* The writable part with the default sense size; data-in follows. */
struct virtio_scsi_cmd_resp {
    uint32_t sense_len;
    uint32_t residual;
    uint16_t status_qualifier;
    uint8_t status;
    uint8_t response;
    uint8_t sense[VIRTIO_SCSI_SENSE_BYTES];
};
static_assert(offsetof(struct virtio_scsi_cmd_resp, residual) == 4, "5.6.6.1");
static_assert(offsetof(struct virtio_scsi_cmd_resp, status) == 10, "5.6.6.1");
static_assert(offsetof(struct virtio_scsi_cmd_resp, response) == 11, "5.6.6.1");
static_assert(offsetof(struct virtio_scsi_cmd_resp, sense) == 12, "5.6.6.1");
static_assert(sizeof(struct virtio_scsi_cmd_resp) == 108, "5.6.6.1");

enum virtio_scsi_response { /* 5.6.6.1 and 5.6.6.2 */
    VIRTIO_SCSI_S_OK = 0, /* of a TMF: FUNCTION COMPLETE */
    VIRTIO_SCSI_S_OVERRUN = 1,
    VIRTIO_SCSI_S_ABORTED = 2,
    VIRTIO_SCSI_S_BAD_TARGET = 3,
    VIRTIO_SCSI_S_RESET = 4,
    VIRTIO_SCSI_S_BUSY = 5,
    VIRTIO_SCSI_S_TRANSPORT_FAILURE = 6,
    VIRTIO_SCSI_S_TARGET_FAILURE = 7,
    VIRTIO_SCSI_S_NEXUS_FAILURE = 8,
    VIRTIO_SCSI_S_FAILURE = 9,
    VIRTIO_SCSI_S_FUNCTION_SUCCEEDED = 10,
    VIRTIO_SCSI_S_FUNCTION_REJECTED = 11,
    VIRTIO_SCSI_S_INCORRECT_LUN = 12,
};

enum virtio_scsi_task_attr {
    VIRTIO_SCSI_S_SIMPLE = 0,
    VIRTIO_SCSI_S_ORDERED = 1,
    VIRTIO_SCSI_S_HEAD = 2,
    VIRTIO_SCSI_S_ACA = 3,
};

enum virtio_scsi_control_type { /* 5.6.6.2 */
    VIRTIO_SCSI_T_TMF = 0,
    VIRTIO_SCSI_T_AN_QUERY = 1,
    VIRTIO_SCSI_T_AN_SUBSCRIBE = 2,
};

enum virtio_scsi_tmf {
    VIRTIO_SCSI_T_TMF_ABORT_TASK = 0,
    VIRTIO_SCSI_T_TMF_ABORT_TASK_SET = 1,
    VIRTIO_SCSI_T_TMF_CLEAR_ACA = 2,
    VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET = 3,
    VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET = 4,
    VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET = 5,
    VIRTIO_SCSI_T_TMF_QUERY_TASK = 6,
    VIRTIO_SCSI_T_TMF_QUERY_TASK_SET = 7,
};

struct virtio_scsi_tmf_req { /* answered with one response byte */
    uint32_t type;
    uint32_t subtype;
    uint8_t lun[VIRTIO_SCSI_LUN_BYTES];
    uint8_t id[8];
};
static_assert(offsetof(struct virtio_scsi_tmf_req, lun) == 8, "5.6.6.2");
static_assert(offsetof(struct virtio_scsi_tmf_req, id) == 16, "5.6.6.2");
static_assert(sizeof(struct virtio_scsi_tmf_req) == 24, "5.6.6.2");

struct virtio_scsi_an_req {
    uint32_t type;
    uint8_t lun[VIRTIO_SCSI_LUN_BYTES];
    uint32_t event_requested;
};
static_assert(offsetof(struct virtio_scsi_an_req, event_requested) == 12, "5.6.6.2");
static_assert(sizeof(struct virtio_scsi_an_req) == 16, "5.6.6.2");

struct virtio_scsi_an_resp {
    uint8_t event_actual[4];
    uint8_t response;
};
static_assert(sizeof(struct virtio_scsi_an_resp) == 5, "5.6.6.2");

enum virtio_scsi_event_type { /* 5.6.6.3 */
    VIRTIO_SCSI_T_NO_EVENT = 0,
    VIRTIO_SCSI_T_TRANSPORT_RESET = 1,
    VIRTIO_SCSI_T_ASYNC_NOTIFY = 2,
    VIRTIO_SCSI_T_PARAM_CHANGE = 3,
};
#define VIRTIO_SCSI_T_EVENTS_MISSED UINT32_C(0x80000000)

enum virtio_scsi_reset_reason {
    VIRTIO_SCSI_EVT_RESET_HARD = 0,
    VIRTIO_SCSI_EVT_RESET_RESCAN = 1,
    VIRTIO_SCSI_EVT_RESET_REMOVED = 2,
};

struct virtio_scsi_event {
    uint32_t event;
    uint8_t lun[VIRTIO_SCSI_LUN_BYTES];
    uint32_t reason;
};
static_assert(offsetof(struct virtio_scsi_event, lun) == 4, "5.6.6.3");
static_assert(offsetof(struct virtio_scsi_event, reason) == 12, "5.6.6.3");
static_assert(sizeof(struct virtio_scsi_event) == 16, "5.6.6.3");
