/* sense.h -- sense data, fixed and descriptor format (SPC-4 4.5), and what an errno is in SCSI. */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

struct scsi_sense {
    uint8_t key, asc, ascq;
};
enum { SCSI_SENSE_FIXED_BYTES = 18, SCSI_SENSE_DESCRIPTOR_BYTES = 8 };

#define SCSI_NO_SENSE ((struct scsi_sense){0x0, 0x00, 0x00})
#define SCSI_NOT_READY ((struct scsi_sense){0x2, 0x04, 0x03}) /* manual intervention: no capacity */
#define SCSI_NO_MEDIUM ((struct scsi_sense){0x2, 0x3a, 0x00})
#define SCSI_READ_ERROR ((struct scsi_sense){0x3, 0x11, 0x00})
#define SCSI_WRITE_ERROR ((struct scsi_sense){0x3, 0x0c, 0x00})
#define SCSI_TARGET_FAILURE ((struct scsi_sense){0x4, 0x44, 0x00})
#define SCSI_INVALID_OPCODE ((struct scsi_sense){0x5, 0x20, 0x00})
#define SCSI_LBA_OUT_OF_RANGE ((struct scsi_sense){0x5, 0x21, 0x00})
#define SCSI_INVALID_FIELD_IN_CDB ((struct scsi_sense){0x5, 0x24, 0x00})
#define SCSI_LUN_NOT_SUPPORTED ((struct scsi_sense){0x5, 0x25, 0x00})
#define SCSI_INVALID_FIELD_IN_PARAMETERS ((struct scsi_sense){0x5, 0x26, 0x00})
#define SCSI_PARAMETER_LIST_LENGTH ((struct scsi_sense){0x5, 0x1a, 0x00})
#define SCSI_SAVING_NOT_SUPPORTED ((struct scsi_sense){0x5, 0x39, 0x00})
#define SCSI_WRITE_PROTECTED ((struct scsi_sense){0x7, 0x27, 0x00})
#define SCSI_SPACE_ALLOCATION_FAILED ((struct scsi_sense){0x7, 0x27, 0x07})
#define SCSI_COMMAND_ABORTED ((struct scsi_sense){0xb, 0x00, 0x00})
#define SCSI_INSUFFICIENT_RESOURCES ((struct scsi_sense){0xb, 0x55, 0x03}) /* worth a retry */

/* Write @sense into @to (SCSI_SENSE_FIXED_BYTES long); the number of bytes is returned. */
ANY_THREAD
size_t scsi_sense_fixed(struct scsi_sense sense, uint8_t *to);
/* The same in descriptor format, without descriptors (SCSI_SENSE_DESCRIPTOR_BYTES long). */
ANY_THREAD
size_t scsi_sense_descriptor(struct scsi_sense sense, uint8_t *to);

/* What a medium's -errno is to the initiator; @is_write: it was storing, not fetching. */
ANY_THREAD
struct scsi_sense scsi_sense_from_errno(int rc, bool is_write);
