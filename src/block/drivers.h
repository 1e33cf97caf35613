/* drivers.h -- the drivers of this directory, for cli/'s table. */
#pragma once
#include "block/driver.h"

extern const struct blk_driver blk_driver_file;
extern const struct blk_driver blk_driver_null_co;
extern const struct blk_driver blk_driver_raw;
