/* lonely.h -- nobody includes it. expect: dead */
#pragma once
