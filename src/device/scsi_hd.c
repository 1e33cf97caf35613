/*
 * scsi_hd.c -- `scsi-hd`: a disk on an adapter's bus. Its properties, its drive, its logical unit.
 *
 * A logical unit is identified by its drive node: devices with the same drive are ports of one
 * (their `share-rw` lets the block layer admit the second writer). What belongs to the unit
 * (geometry, identity) must then be said alike by all of them.
 *
 * (U1) A unit lives as long as one of its ports; each port's root keeps the node.
 * (U2) The medium's calls work under the root in co_local(): that of the port which the command
 *      came through, whose token it holds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/checked.h"
#include "base/mem.h"
#include "base/str.h"
#include "block/drain.h"
#include "device/device_int.h"
#include "device/hba_int.h"

enum {
    SECTOR_BYTES = 512,
    BLOCK_BYTES_MAX = 2 << 20,
    DISCARD_GRANULARITY_BYTES = 4096,
    ADDRESS_OPEN = -1,
};
#define DISCARD_GRANULARITY_OPEN UINT64_C(0xffffffff)

struct scsi_hd_options {
    struct device_options common;
    char *drive, *serial, *vendor, *product, *ver, *device_id;
    uint32_t channel, scsi_id, lun;
    uint64_t logical_block_size, physical_block_size, min_io_size, opt_io_size;
    uint64_t discard_granularity, max_unmap_size, max_io_size;
    uint64_t wwn, port_wwn;
    uint16_t rotation_rate, port_index;
    int64_t scsi_version;
    bool removable, dpofua, share_rw;
    int write_cache, rerror, werror;
};

static const char *const on_off_auto_names[] = {"auto", "on", "off", NULL};
enum { AUTO_AUTO, AUTO_ON, AUTO_OFF };
static const char *const on_error_names[] = {"auto", "report", NULL};

#define STR(n, m, h)                                                                               \
    {.name = n, .type = OPT_STR, OPT_AT(struct scsi_hd_options, m), .since = "0.1", .help = h}
#define NUMBER(n, t, m, d, h)                                                                      \
    {.name = n, .type = t, OPT_AT(struct scsi_hd_options, m), .dflt = d, .since = "0.1", .help = h}
#define REFUSED(n, t, why)                                                                         \
    {.name = n, .type = t, .flags = OPT_REFUSED, .since = "0.1", .help = why}
#define NO_GEOMETRY "the geometry of cylinders and heads is nothing a guest of today looks at"
#define NO_ACCOUNTING "there are no I/O statistics by device to account it in"

static const struct opt scsi_hd_opts[] = {
    REFUSED("account-failed", OPT_STR, NO_ACCOUNTING),
    REFUSED("account-invalid", OPT_STR, NO_ACCOUNTING),
    REFUSED("backend_defaults", OPT_STR, "block limits come from the properties alone"),
    REFUSED("bootindex", OPT_I64, "the boot order is the virtual machine's: say it there"),
    NUMBER("channel", OPT_U32, channel, "0", "the bus within the adapter: there is channel 0"),
    REFUSED("cyls", OPT_U32, NO_GEOMETRY),
    STR("device_id", device_id, "identifier in VPD page 83h, up to 20 characters; default: serial"),
    NUMBER("discard_granularity", OPT_SIZE, discard_granularity, "4294967295",
           "bytes UNMAP works in; 0: no UNMAP; default: 4096 or the physical block size"),
    NUMBER("dpofua", OPT_BOOL, dpofua, "false", "offer DPO and FUA"),
    {.name = "drive", .type = OPT_STR, OPT_AT(struct scsi_hd_options, drive),
     .flags = OPT_REQUIRED, .since = "0.1", .help = "node name of the block node to use"},
    REFUSED("heads", OPT_U32, NO_GEOMETRY),
    REFUSED("lcyls", OPT_U32, NO_GEOMETRY),
    REFUSED("lheads", OPT_U32, NO_GEOMETRY),
    NUMBER("logical_block_size", OPT_SIZE, logical_block_size, "0",
           "a power of two between 512 B and 2 MiB; default: 512"),
    REFUSED("lsecs", OPT_U32, NO_GEOMETRY),
    NUMBER("lun", OPT_U32, lun, "4294967295", "0 to 16383; default: the lowest free one"),
    NUMBER("max_io_size", OPT_U64, max_io_size, "2147483647", "largest transfer, in bytes"),
    NUMBER("max_unmap_size", OPT_U64, max_unmap_size, "1073741824", "largest UNMAP, in bytes"),
    NUMBER("min_io_size", OPT_SIZE, min_io_size, "0", "smallest good transfer, in bytes"),
    NUMBER("opt_io_size", OPT_SIZE, opt_io_size, "0", "best transfer, in bytes"),
    NUMBER("physical_block_size", OPT_SIZE, physical_block_size, "0",
           "a power of two between 512 B and 2 MiB; default: the logical one"),
    NUMBER("port_index", OPT_U16, port_index, "0", "relative target port, in VPD page 83h"),
    NUMBER("port_wwn", OPT_U64, port_wwn, "0", "NAA identifier of the port, in VPD page 83h"),
    {.name = "product", .type = OPT_STR, OPT_AT(struct scsi_hd_options, product),
     .dflt = "CAISSON DISK", .since = "0.1", .help = "up to 16 characters"},
    REFUSED("quirk_mode_page_vendor_specific_apple", OPT_BOOL, "there is no such mode page here"),
    NUMBER("removable", OPT_BOOL, removable, "false", "the medium is removable"),
    {.name = "rerror", .type = OPT_ENUM, OPT_AT(struct scsi_hd_options, rerror),
     .names = on_error_names, .dflt = "auto", .since = "0.1",
     .help = "a failed read is reported to the guest"},
    NUMBER("rotation_rate", OPT_U16, rotation_rate, "0",
           "revolutions a minute; 1: not rotating; 0: not said"),
    NUMBER("scsi-id", OPT_U32, scsi_id, "4294967295",
           "the target, 0 to 255; default: the lowest with the LUN free"),
    {.name = "scsi_version", .type = OPT_I64, OPT_AT(struct scsi_hd_options, scsi_version),
     .dflt = "5", .min = 3, .max = 7, .since = "0.1", .help = "version in standard INQUIRY data"},
    REFUSED("secs", OPT_U32, NO_GEOMETRY),
    STR("serial", serial, "in VPD page 80h, up to 36 characters"),
    NUMBER("share-rw", OPT_BOOL, share_rw, "false", "others may write to the drive, too"),
    {.name = "vendor", .type = OPT_STR, OPT_AT(struct scsi_hd_options, vendor),
     .dflt = "CAISSON", .since = "0.1", .help = "up to 8 characters"},
    {.name = "ver", .type = OPT_STR, OPT_AT(struct scsi_hd_options, ver), .dflt = "0.1",
     .since = "0.1", .help = "up to 4 characters"},
    {.name = "werror", .type = OPT_ENUM, OPT_AT(struct scsi_hd_options, werror),
     .names = on_error_names, .dflt = "auto", .since = "0.1",
     .help = "a failed write is reported to the guest"},
    {.name = "write-cache", .type = OPT_ENUM, OPT_AT(struct scsi_hd_options, write_cache),
     .names = on_off_auto_names, .dflt = "auto", .since = "0.1",
     .help = "is there a volatile write cache? auto: yes"},
    NUMBER("wwn", OPT_U64, wwn, "0", "NAA identifier of the unit, in VPD page 83h"),
};
static const struct opt_table scsi_hd_options_table = {
    .name = "scsi-hd",
    .help = "a SCSI disk on a host adapter's bus",
    .base = &device_options_table,
    .opts = scsi_hd_opts,
    .count = countof(scsi_hd_opts),
    .values_bytes = sizeof(struct scsi_hd_options),
};

struct unit {
    struct list link;
    struct blk_node *node;   /* kept by the ports' roots */
    struct scsi_lu *lu;
    struct scsi_lu_config config;
    unsigned port_count;
    struct list *nexus_link; /* of some published port; NULL: none is */
};

struct scsi_hd {
    struct device device; /* first */
    struct scsi_lu_config config;
    struct unit *unit;
    struct blk_root *root;
    struct hba_lun lun;
};

static struct list units = LIST_INIT(units);

ANY_THREAD
static struct scsi_hd *to_hd(struct device *device)
{
    return container_of(device, struct scsi_hd, device);
}

ANY_THREAD
static const struct scsi_hd_options *hd_options(const struct device *device)
{
    return (const void *)device->options;
}

/* ---- the medium, (U2) --------------------------------------------------------------------- */

ANY_THREAD
static uint64_t medium_bytes(void *medium)
{
    const struct unit *unit = medium;

    return blk_node_bytes(unit->node);
}

CO_FN
static int medium_preadv(void *medium, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         size_t count)
{
    struct blk_root *root = co_local();

    (void)medium;
    blk_root_assert_token(root);
    return blk_root_co_preadv(root, offset, bytes, iov, count, 0);
}

CO_FN
static int medium_pwritev(void *medium, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          size_t count, unsigned flags)
{
    struct blk_root *root = co_local();

    (void)medium;
    blk_root_assert_token(root);
    return blk_root_co_pwritev(root, offset, bytes, iov, count,
                               flags & SCSI_MEDIUM_FUA ? BLK_REQ_FUA : 0);
}

CO_FN
static int medium_flush(void *medium)
{
    struct blk_root *root = co_local();

    (void)medium;
    blk_root_assert_token(root);
    return blk_root_co_flush(root);
}

CO_FN
static int medium_discard(void *medium, uint64_t offset, uint64_t bytes)
{
    struct blk_root *root = co_local();

    (void)medium;
    blk_root_assert_token(root);
    return blk_root_co_discard(root, offset, bytes);
}

CO_FN
static int medium_write_zeroes(void *medium, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct blk_root *root = co_local();

    (void)medium;
    blk_root_assert_token(root);
    return blk_root_co_write_zeroes(root, offset, bytes,
                                    (flags & SCSI_MEDIUM_FUA ? BLK_REQ_FUA : 0) |
                                        (flags & SCSI_MEDIUM_MAY_UNMAP ? BLK_REQ_MAY_UNMAP : 0));
}

static const struct scsi_medium_ops medium_ops = {
    .bytes = medium_bytes,
    .co_preadv = medium_preadv,
    .co_pwritev = medium_pwritev,
    .co_flush = medium_flush,
    .co_discard = medium_discard,
    .co_write_zeroes = medium_write_zeroes,
};

/* ---- properties --------------------------------------------------------------------------- */

MAIN_LOOP
static int copy_text(const char *property, const char *text, char *to, size_t room,
                     struct err **reterr)
{
    if (text == NULL) {
        return 0;
    }
    if (strlen(text) >= room) {
        return err_set(reterr, EINVAL, "property '%s' has %zu characters; at most %zu fit",
                       property, strlen(text), room - 1);
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < 0x20 || *c > 0x7e) {
            return err_set(reterr, EINVAL, "property '%s' must be printable ASCII (SPC-5 4.3.1)",
                           property);
        }
    }
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

MAIN_LOOP
static int config_texts(const struct scsi_hd_options *o, struct scsi_lu_config *config,
                        struct err **reterr)
{
    const struct {
        const char *name, *text;
        char *to;
        size_t room;
    } texts[] = {
        {"vendor", o->vendor, config->vendor, sizeof(config->vendor)},
        {"product", o->product, config->product, sizeof(config->product)},
        {"ver", o->ver, config->version, sizeof(config->version)},
        {"serial", o->serial, config->serial, sizeof(config->serial)},
        {"device_id", o->device_id, config->device_id, sizeof(config->device_id)},
    };

    for (size_t i = 0; i < countof(texts); i++) {
        int rc = copy_text(texts[i].name, texts[i].text, texts[i].to, texts[i].room, reterr);

        if (rc < 0) {
            return rc;
        }
    }
    if (o->device_id == NULL && o->serial != NULL) {
        memcpy(config->device_id, config->serial,
               min_of(sizeof(config->device_id) - 1, strlen(o->serial)));
    }
    return 0;
}

MAIN_LOOP
static int check_block_size(const char *property, uint64_t bytes, struct err **reterr)
{
    if (is_power_of_two(bytes) && bytes >= SECTOR_BYTES && bytes <= BLOCK_BYTES_MAX) {
        return 0;
    }
    return err_set(reterr, EINVAL, "property '%s' must be a power of two between 512 and %d, not %"
                   PRIu64, property, BLOCK_BYTES_MAX, bytes);
}

MAIN_LOOP
static int check_multiple(const char *property, uint64_t bytes, uint64_t of, struct err **reterr)
{
    if (bytes % of == 0 && bytes <= UINT32_MAX) {
        return 0;
    }
    return err_set(reterr, EINVAL, "property '%s' must be a multiple of the logical block size (%"
                   PRIu64 ") below 4 GiB, not %" PRIu64, property, of, bytes);
}

/* In QEMU's order of defaults: each size left at 0 takes the one before. */
MAIN_LOOP
static int config_sizes(const struct scsi_hd_options *o, struct scsi_lu_config *config,
                        struct err **reterr)
{
    uint64_t logical = o->logical_block_size != 0 ? o->logical_block_size : SECTOR_BYTES;
    uint64_t physical = o->physical_block_size != 0 ? o->physical_block_size
                                                    : max_of(logical, (uint64_t)SECTOR_BYTES);
    uint64_t granularity = o->discard_granularity;
    int rc;

    if (granularity == DISCARD_GRANULARITY_OPEN) {
        granularity = max_of(physical, (uint64_t)DISCARD_GRANULARITY_BYTES);
    }
    if ((rc = check_block_size("logical_block_size", logical, reterr)) < 0 ||
        (rc = check_block_size("physical_block_size", physical, reterr)) < 0 ||
        (rc = check_multiple("min_io_size", o->min_io_size, logical, reterr)) < 0 ||
        (rc = check_multiple("opt_io_size", o->opt_io_size, logical, reterr)) < 0 ||
        (rc = check_multiple("discard_granularity", granularity, logical, reterr)) < 0) {
        return rc;
    }
    if (logical > physical) {
        return err_set(reterr, EINVAL,
                       "property 'logical_block_size' (%" PRIu64 ") must not be larger than "
                       "'physical_block_size' (%" PRIu64 ")", logical, physical);
    }
    config->logical_block_bytes = (uint32_t)logical;
    config->physical_block_bytes = (uint32_t)physical;
    config->min_io_bytes = (uint32_t)o->min_io_size;
    config->opt_io_bytes = (uint32_t)o->opt_io_size;
    config->discard_granularity_bytes = (uint32_t)granularity;
    config->thin = granularity != 0;
    return 0;
}

MAIN_LOOP
static int config_fill(const struct scsi_hd_options *o, struct scsi_lu_config *config,
                       struct err **reterr)
{
    int rc = config_texts(o, config, reterr);

    if (rc < 0 || (rc = config_sizes(o, config, reterr)) < 0) {
        return rc;
    }
    config->max_unmap_bytes = o->max_unmap_size;
    config->max_io_bytes = o->max_io_size;
    config->rotation_rate = o->rotation_rate;
    config->scsi_version = (uint8_t)o->scsi_version;
    config->removable = o->removable;
    config->write_cache = o->write_cache != AUTO_OFF;
    config->dpofua = o->dpofua;
    config->wwn = o->wwn;
    config->port_wwn = o->port_wwn;
    config->port_index = o->port_index;
    return 0;
}

/* ---- addresses ---------------------------------------------------------------------------- */

MAIN_LOOP
static int address_parse(const struct device *device, int *ret_target, int *ret_lun,
                         struct err **reterr)
{
    const struct scsi_hd_options *o = hd_options(device);

    if (o->channel != 0) {
        return err_set(reterr, EINVAL, "property 'channel': bus '%s.0' has channel 0 alone, not %u",
                       hba_id(device->hba), o->channel);
    }
    if (o->scsi_id >= SCSI_TARGETS_MAX && o->scsi_id != UINT32_MAX) {
        return err_set(reterr, EINVAL, "property 'scsi-id' must be 0 to %d, not %u",
                       SCSI_TARGETS_MAX - 1, o->scsi_id);
    }
    if (o->lun >= SCSI_LUNS_MAX && o->lun != UINT32_MAX) {
        return err_set(reterr, EINVAL, "property 'lun' must be 0 to %d, not %u", SCSI_LUNS_MAX - 1,
                       o->lun);
    }
    *ret_target = o->scsi_id == UINT32_MAX ? ADDRESS_OPEN : (int)o->scsi_id;
    *ret_lun = o->lun == UINT32_MAX ? ADDRESS_OPEN : (int)o->lun;
    return 0;
}

/* Devices that come and go have their address too, so the registry is asked and not the LUN
 * table. */
MAIN_LOOP
static int address_choose(struct device *device, struct err **reterr)
{
    const char *name = device_name(device);
    int target = 0;
    int lun = 0;
    int rc = address_parse(device, &target, &lun, reterr);
    int targets_end = target == ADDRESS_OPEN ? SCSI_TARGETS_MAX : target + 1;
    int luns_end = lun == ADDRESS_OPEN && target != ADDRESS_OPEN ? SCSI_LUNS_MAX
                                                                 : max_of(lun, 0) + 1;

    if (rc < 0) {
        return rc;
    }
    for (int t = max_of(target, 0); t < targets_end; t++) {
        for (int l = max_of(lun, 0); l < luns_end; l++) {
            if (device_at(device->hba, (uint8_t)t, (uint16_t)l) == NULL) {
                device->target = (uint8_t)t;
                device->lun = (uint16_t)l;
                return 0;
            }
        }
    }
    if (target != ADDRESS_OPEN && lun != ADDRESS_OPEN) {
        const struct device *owner = device_at(device->hba, (uint8_t)target, (uint16_t)lun);

        return err_set(reterr, EBUSY, "device '%s': lun %d of scsi-id %d on bus '%s.0' is taken by "
                       "'%s'", name, lun, target, hba_id(device->hba), device_name(owner));
    }
    return err_set(reterr, ENOSPC, "device '%s': no address is free on bus '%s.0'", name,
                   hba_id(device->hba));
}

MAIN_LOOP
static int hd_prepare(struct device *device, struct err **reterr)
{
    int rc = config_fill(hd_options(device), &to_hd(device)->config, reterr);

    return rc < 0 ? rc : address_choose(device, reterr);
}

/* ---- units, (U1) -------------------------------------------------------------------------- */

#define UNIT_FIELD(property, member)                                                               \
    {property, offsetof(struct scsi_lu_config, member),                                            \
     sizeof(((struct scsi_lu_config *)0)->member)}
static const struct {
    const char *property;
    size_t offset, bytes;
} unit_fields[] = {
    UNIT_FIELD("logical_block_size", logical_block_bytes),
    UNIT_FIELD("physical_block_size", physical_block_bytes),
    UNIT_FIELD("min_io_size", min_io_bytes),
    UNIT_FIELD("opt_io_size", opt_io_bytes),
    UNIT_FIELD("discard_granularity", discard_granularity_bytes),
    UNIT_FIELD("max_unmap_size", max_unmap_bytes),
    UNIT_FIELD("max_io_size", max_io_bytes),
    UNIT_FIELD("rotation_rate", rotation_rate),
    UNIT_FIELD("scsi_version", scsi_version),
    UNIT_FIELD("removable", removable),
    UNIT_FIELD("write-cache", write_cache),
    UNIT_FIELD("dpofua", dpofua),
    UNIT_FIELD("vendor", vendor),
    UNIT_FIELD("product", product),
    UNIT_FIELD("ver", version),
    UNIT_FIELD("serial", serial),
    UNIT_FIELD("device_id", device_id),
    UNIT_FIELD("wwn", wwn),
    UNIT_FIELD("port_wwn", port_wwn),
    UNIT_FIELD("port_index", port_index),
};

MAIN_LOOP
static int unit_check_alike(const struct unit *unit, const struct scsi_lu_config *config,
                            struct err **reterr)
{
    for (size_t i = 0; i < countof(unit_fields); i++) {
        if (memcmp((const char *)&unit->config + unit_fields[i].offset,
                   (const char *)config + unit_fields[i].offset, unit_fields[i].bytes) != 0) {
            return err_set(reterr, EINVAL,
                           "property '%s' must be as on the other device with drive '%s': both are "
                           "ports of one logical unit", unit_fields[i].property,
                           blk_node_name(unit->node));
        }
    }
    return 0;
}

MAIN_LOOP
static int unit_get(struct blk_node *node, const struct scsi_lu_config *config,
                    struct unit **ret_unit, struct err **reterr)
{
    struct unit *unit;
    int rc;

    list_for_each(unit, &units, link) {
        if (unit->node == node) {
            rc = unit_check_alike(unit, config, reterr);
            if (rc == 0) {
                unit->port_count++;
                *ret_unit = unit;
            }
            return rc;
        }
    }
    unit = mem_new(struct unit);
    unit->node = node;
    unit->config = *config;
    unit->port_count = 1;
    rc = scsi_lu_new(config, &medium_ops, unit, &unit->lu, reterr);
    if (rc < 0) {
        mem_free(unit);
        return rc;
    }
    list_add_tail(&units, &unit->link);
    *ret_unit = unit;
    return 0;
}

MAIN_LOOP
static void unit_put(struct unit *unit)
{
    if (--unit->port_count == 0) {
        list_remove(&unit->link);
        scsi_lu_free(unit->lu);
        mem_free(unit);
    }
}

/* ---- the drive ---------------------------------------------------------------------------- */

MAIN_LOOP
static const char *root_describe(void *opaque)
{
    static char text[160]; /* main loop only; ids have at most 127 bytes, paths of ours less */
    struct scsi_hd *hd = opaque;

    snprintf(text, sizeof(text), "device '%s'", device_name(&hd->device));
    return text;
}

MAIN_LOOP
static void root_restart(void *opaque)
{
    struct scsi_hd *hd = opaque;

    if (hd->lun.root != NULL) { /* it has been made whole */
        hba_lun_restart(&hd->lun);
    }
}

MAIN_LOOP
static void root_resized(void *opaque)
{
    struct scsi_hd *hd = opaque;

    if (hd->device.state == DEVICE_PLUGGED) {
        hba_lun_resized(&hd->lun);
    }
}

static const struct blk_root_ops root_ops = {
    .describe = root_describe,
    .restart = root_restart,
    .resized = root_resized,
};

MAIN_LOOP CO_FN
static int drive_co_attach(struct scsi_hd *hd, struct err **reterr)
{
    const struct scsi_hd_options *o = hd_options(&hd->device);
    struct blk_node *node = blk_node_find(o->drive);
    unsigned perm = BLK_PERM_CONSISTENT_READ;
    unsigned shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE;

    if (node == NULL) {
        return err_set(reterr, ENOENT, "Property 'scsi-hd.drive' can't find value '%s'", o->drive);
    }
    hd->config.read_only = blk_node_is_read_only(node);
    if (!hd->config.read_only) {
        perm |= BLK_PERM_WRITE;
    }
    if (o->share_rw) {
        shared |= BLK_PERM_WRITE;
    }
    return blk_root_co_new(node, perm, shared, &root_ops, hd, &hd->root, reterr);
}

MAIN_LOOP CO_FN
static int hd_realize(struct device *device, struct err **reterr)
{
    struct scsi_hd *hd = to_hd(device);
    struct scsi_port *port;
    int rc = drive_co_attach(hd, reterr);

    if (rc < 0) {
        return rc;
    }
    rc = unit_get(blk_root_node(hd->root), &hd->config, &hd->unit, reterr);
    if (rc < 0) {
        blk_root_co_free(take(&hd->root));
        return rc;
    }
    port = scsi_port_new(hd->unit->lu, device->target, device->lun);
    hba_lun_init(&hd->lun, device->hba, hd->root, port, device->target, device->lun);
    return 0;
}

MAIN_LOOP
static int hd_publish(struct device *device, struct err **reterr)
{
    struct scsi_hd *hd = to_hd(device);
    int rc = hba_lun_publish(&hd->lun);

    if (rc < 0) {
        return err_set_errno(reterr, -rc, "device '%s': bus '%s.0' does not take it",
                             device_name(device), hba_id(device->hba));
    }
    if (hd->unit->nexus_link != NULL) {
        list_add_after(hd->unit->nexus_link, &hd->lun.nexus_link);
    }
    hd->unit->nexus_link = &hd->lun.nexus_link;
    return 0;
}

MAIN_LOOP
static void hd_announce(struct device *device)
{
    hba_lun_announce(&to_hd(device)->lun);
}

/* ---- unplug ------------------------------------------------------------------------------- */

MAIN_LOOP
static void hd_unpublish(struct device *device)
{
    struct scsi_hd *hd = to_hd(device);

    hba_lun_unpublish(&hd->lun);
    hd->unit->nexus_link = list_is_linked(&hd->lun.nexus_link) ? hd->lun.nexus_link.next : NULL;
    list_remove(&hd->lun.nexus_link);
}

MAIN_LOOP CO_FN
static void hd_purge(struct device *device)
{
    hba_lun_co_purge(&to_hd(device)->lun);
}

MAIN_LOOP CO_FN
static void hd_drain(struct device *device)
{
    struct scsi_hd *hd = to_hd(device);

    hba_lun_co_wait_unfenced(&hd->lun);
    blk_root_gate_close(hd->root);
    blk_root_co_wait_idle(hd->root);
}

MAIN_LOOP CO_FN
static void hd_detach(struct device *device)
{
    struct scsi_hd *hd = to_hd(device);

    scsi_port_free(hd->lun.slot.port);
    unit_put(hd->unit);
    blk_root_co_free(take(&hd->root));
}

MAIN_LOOP
static void hd_announce_gone(struct device *device)
{
    hba_lun_announce_gone(device->hba, device->target, device->lun);
}

/* ---- for people --------------------------------------------------------------------------- */

MAIN_LOOP
static void hd_describe(struct device *device, json_t *object)
{
    const struct scsi_hd_options *o = hd_options(device);

    json_object_set_new(object, "node-name", json_string(o->drive));
    if (o->serial != NULL) {
        json_object_set_new(object, "serial", json_string(o->serial));
    }
}

MAIN_LOOP
static void hd_describe_requests(struct device *device, json_t *to_array)
{
    hba_describe_requests_of(device->hba, &to_hd(device)->lun, to_array);
}

const struct device_driver scsi_hd_driver = {
    .name = "scsi-hd",
    .properties = &scsi_hd_options_table,
    .bytes = sizeof(struct scsi_hd),
    .prepare = hd_prepare,
    .co_realize = hd_realize,
    .publish = hd_publish,
    .announce = hd_announce,
    .unpublish = hd_unpublish,
    .co_purge = hd_purge,
    .co_drain = hd_drain,
    .co_detach = hd_detach,
    .announce_gone = hd_announce_gone,
    .describe = hd_describe,
    .describe_requests = hd_describe_requests,
};
