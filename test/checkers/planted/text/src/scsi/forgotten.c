/* forgotten.c -- in no meson.build. expect: dead */
