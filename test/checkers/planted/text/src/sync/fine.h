/* fine.h -- the header of fine.c. */
#pragma once
