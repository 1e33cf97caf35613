/*
 * device_int.h -- what device.c knows of every plugged device, and what a driver of devices
 * provides.
 */
#pragma once
#include "base/opt.h"
#include "co/lock.h"
#include "device/device.h"
#include "device/hba.h"

enum device_state { /* device.c has who moves them */
    DEVICE_NEW,
    DEVICE_PLUGGED,
    DEVICE_UNPUBLISHED,
    DEVICE_DRAINING,
    DEVICE_DETACHING,
    DEVICE_STATE_MAX_
};

/* Options of every device; a driver's own begin with this. */
struct device_options {
    char *driver;
    char *id;
    char *bus;
};
extern const struct opt_table device_options_table;

struct device {
    struct list link;
    const struct device_driver *driver;
    char *id;            /* NULL: none was given */
    char *path;          /* "/machine/peripheral/ID" or "/machine/peripheral-anon/device[N]" */
    struct hba *hba;
    uint8_t target;      /* its address is taken from the beginning to the end */
    uint16_t lun;
    enum device_state state;
    uint64_t since_ns;   /* of the state, LOOP_CLOCK_REALTIME */
    struct device_options *options; /* of the driver's table */
};

/* In this order, each once: co_realize, publish, announce; unpublish, co_purge, co_drain,
 * co_detach. */
struct device_driver {
    const char *name;
    const struct opt_table *properties;
    size_t bytes; /* of the driver's struct, which begins with struct device; zeroed */
    /* Is this a valid set of properties? The address may be chosen here. */
    MAIN_SLOT int (*prepare)(struct device *device, struct err **reterr);
    /* Take the drive and make the device whole. On failure everything is undone. */
    MAIN_SLOT CO_SLOT int (*co_realize)(struct device *device, struct err **reterr);
    MAIN_SLOT int (*publish)(struct device *device, struct err **reterr);
    /* Tell the guest: it can be found. */
    MAIN_SLOT void (*announce)(struct device *device);
    MAIN_SLOT void (*unpublish)(struct device *device);
    MAIN_SLOT CO_SLOT void (*co_purge)(struct device *device);
    MAIN_SLOT CO_SLOT void (*co_drain)(struct device *device);
    /* Undo co_realize(); nothing of the device is used any more. */
    MAIN_SLOT CO_SLOT void (*co_detach)(struct device *device);
    MAIN_SLOT void (*announce_gone)(struct device *device);
    MAIN_SLOT void (*describe)(struct device *device, json_t *object);
    /* What an unplug waits for, as text, appended to @to_array. */
    MAIN_SLOT void (*describe_requests)(struct device *device, json_t *to_array);
};
extern const struct device_driver scsi_hd_driver;

/* "device 'disk0'", or its path. */
MAIN_LOOP
const char *device_name(const struct device *device);
/* Who has the address, in whatever state; NULL: nobody. */
MAIN_LOOP
struct device *device_at(const struct hba *hba, uint8_t target, uint16_t lun);
