/* up.c -- base/ includes nobody, and no private header of anybody. */
#include "scsi/planted.h"     // expect: layer: base/ may not include scsi/planted.h
#include "scsi/private_int.h" // expect: private: private_int.h // expect: layer: scsi/private_int.h
#include "base/ctx.h"
