/* What the parts of the generator share. */
#ifndef FOVEA_CATALOGUE_GENERATE_H
#define FOVEA_CATALOGUE_GENERATE_H

#include "catalogue/catalogue.h"

/* "t, f32, bf16" */
void fovea_generate_dtypes(uint32_t set, char *text, size_t size);
/* One name out of "a,b,c"; 0 past the last. */
int fovea_generate_choice(const char *choices, int index, char *text);

/* The functions of Python, as a table of C with their documentation, and as a stub file. */
void fovea_generate_python(void);
void fovea_generate_stubs(void);

/* Pages of the manual, section 3, a file each; 0 on success. */
int fovea_generate_man(const char *directory);

#endif
